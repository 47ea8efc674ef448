// What the ranks of expert_parallel_test run: train_ranks CASE EXPERT_PARALLEL. Rank 0 prints the
// losses of some steps and of a validation, and a checksum of the weights.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/rng.h"
#include "train/expert_parallel.h"
#include "train/testing_model.h"
#include "train/trainer.h"

namespace hadal {
namespace {

// Sequences of many lengths, so that parts differ in their number of passes; some documents have
// one token, in some sequences all.
std::vector<PackedSequence> Data(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<PackedSequence> out;
  for (int64_t s = 0; s < count; ++s) {
    PackedSequence p;
    const int64_t documents = 1 + s % 3;
    for (int64_t d = 0; d < documents; ++d) {
      p.document_first.push_back(static_cast<int32_t>(p.tokens.size()));
      const auto length = s % 5 == 4 ? int64_t{1} : static_cast<int64_t>(1 + rng.Below(14));
      for (int64_t i = 0; i < length; ++i) {
        p.tokens.push_back(static_cast<int32_t>(rng.Below(64)));
        p.loss.push_back(i > 0 ? 1 : 0);
      }
    }
    out.push_back(std::move(p));
  }
  return out;
}

TrainOptions Options(const std::string& name) {
  TrainOptions o;
  o.sequence_length = 48;
  o.batch_sequences = 16;
  o.micro_tokens = 48;
  o.steps = 10;
  o.schedule.learning_rate = 1e-2;
  o.optimizer.clip = 0.5;
  o.recompute = name == "recompute";
  if (name == "bf16") o.compute = ComputeType::kBF16;
  if (name == "fp8") o.compute = ComputeType::kF8;
  if (name == "muon") o.optimizer.kind = OptimizerOptions::Kind::kMuon;
  return o;
}

Status Train(World& world, const TrainOptions& options) {
  const Exec exec(1, SupportedIsas().back());
  std::unique_ptr<ExpertParallel> parallel;
  if (options.expert_parallel > 1) {
    parallel = TRY(ExpertParallel::Create(world, options.expert_parallel));
  }
  const ModelConfig config = TRY(ModelConfig::FromJson(SparseConfig(3)));
  const auto model = TRY(TrainableModel::Create(exec, config, options.compute, parallel.get()));
  Parameters& p = model->parameters();
  p.Initialise(exec, options.seed, 0.05f);
  const auto trainer = TRY(Trainer::Create(exec, world, *model, options, parallel.get()));
  const bool root = world.rank() == 0;
  for (uint64_t step = 0; step < 3; ++step) {
    const StepRecord r = TRY(trainer->Step(Data(options.batch_sequences, step)));
    std::string loads;
    for (const auto& layer : r.expert_tokens) {
      for (const int64_t n : layer) loads.append(" ").append(std::to_string(n));
    }
    if (root)
      std::printf("%a %a %a %a%s\n", r.loss, r.mtp_loss, r.balance_loss, r.grad_norm,
                  loads.c_str());
  }
  const Trainer::Validation v = TRY(trainer->Validate(Data(5, 9)));
  if (root) std::printf("%a %ld\n", v.loss, static_cast<long>(v.correct));
  std::string all;
  for (size_t i = 0; i < p.entries().size(); ++i) {
    std::vector<float> values(static_cast<size_t>(p.entries()[i].size()));
    trainer->Master(static_cast<int64_t>(i), values);
    all.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  if (root) std::printf("%s\n", Sha256Hex(all).c_str());
  return {};
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto world = hadal::World::Start();
  if (!world.ok()) return 4;
  hadal::TrainOptions options = hadal::Options(argv[1]);
  options.expert_parallel = std::atoi(argv[2]);
  const hadal::Status done = hadal::Train(**world, options);
  if (!done.ok()) (*world)->Abort(done.error().message);
  (*world)->Finish();
  return 0;
}
