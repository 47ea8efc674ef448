#include "train/trainer.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>

#include "base/file.h"
#include "base/rng.h"
#include "train/checkpoint.h"
#include "train/testing_model.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

// Sequences of two documents each, in which token i + 1 is a function of token i.
std::vector<PackedSequence> Data(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<PackedSequence> out;
  for (int64_t s = 0; s < count; ++s) {
    PackedSequence p;
    for (const int64_t length : {20, 12}) {
      p.document_first.push_back(static_cast<int32_t>(p.tokens.size()));
      auto token = static_cast<int32_t>(rng.Below(64));
      for (int64_t i = 0; i < length; ++i) {
        p.tokens.push_back(token);
        p.loss.push_back(i > 0 ? 1 : 0);
        token = (token * 5 + 3) % 64;
      }
    }
    out.push_back(std::move(p));
  }
  return out;
}

TrainOptions Options() {
  TrainOptions o;
  o.sequence_length = 32;
  o.batch_sequences = 8;
  o.micro_tokens = 64;
  o.steps = 60;
  o.schedule.learning_rate = 1e-2;
  o.schedule.warmup_steps = 3;
  return o;
}

// A model in training, alone in the world.
struct Bench {
  explicit Bench(const TrainOptions& options, int threads = 2)
      : exec(threads, SupportedIsas().back()), world(std::move(World::Start()).value()) {
    const ModelConfig config = ModelConfig::FromJson(SparseConfig(2)).value();
    model = std::move(TrainableModel::Create(exec, config, options.compute)).value();
    model->parameters().Initialise(exec, options.seed, 0.05f);
    Result<std::unique_ptr<Trainer>> made = Trainer::Create(exec, *world, *model, options);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
    trainer = std::move(made).value();
  }
  StepRecord Step(uint64_t seed) {
    Result<StepRecord> r = trainer->Step(Data(8, seed));
    EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().message);
    return r.ok() ? *r : StepRecord{};
  }
  std::vector<float> weights() const {
    const std::span<const float> v = model->parameters().values();
    return {v.begin(), v.end()};
  }
  Exec exec;
  std::unique_ptr<World> world;
  std::unique_ptr<TrainableModel> model;
  std::unique_ptr<Trainer> trainer;
};

double LossAfter(const TrainOptions& options, int steps) {
  Bench b(options);
  double loss = 0;
  for (int i = 0; i < steps; ++i) loss = b.Step(static_cast<uint64_t>(i)).loss;
  return loss;
}

// A checkpoint in the folder, emptied first.
CheckpointState SaveIn(const std::string& run, Bench& b, const TrainOptions& options) {
  fs::remove_all(run);
  fs::create_directories(run);
  CheckpointState state;
  state.fingerprint = options.Fingerprint();
  state.trainer = b.trainer->state();
  state.model = b.model->config().ToJson("float32");
  EXPECT_TRUE(SaveCheckpoint(run, *b.world, *b.trainer, *b.model, state, {}).ok());
  return state;
}

TEST(Trainer, LearnsWithEachOptimizerAndPrecision) {
  const double start = std::log(64.0);
  TrainOptions o = Options();
  EXPECT_LT(LossAfter(o, 60), 0.3 * start);
  o.optimizer.moments = MomentType::kBF16;
  EXPECT_LT(LossAfter(o, 60), 0.3 * start);
  o.compute = ComputeType::kBF16;
  const double bf16 = LossAfter(o, 60);
  EXPECT_LT(bf16, 0.3 * start);
  o.compute = ComputeType::kF8;
  EXPECT_NEAR(LossAfter(o, 60), bf16, 0.1);
  o = Options();
  o.optimizer.kind = OptimizerOptions::Kind::kMuon;
  EXPECT_LT(LossAfter(o, 60), 0.3 * start);
}

TEST(Trainer, MovesTheRouterBiasAgainstTheLoad) {
  Bench b(Options());
  const StepRecord r = b.Step(1);
  ASSERT_EQ(r.expert_tokens.size(), 2u);  // the MoE layer and the MTP block
  const Parameters& p = b.model->parameters();
  const int64_t index = p.Find("model.layers.1.mlp.gate.e_score_correction_bias");
  ASSERT_GE(index, 0);
  double mean = 0;
  for (const int64_t n : r.expert_tokens[0]) mean += static_cast<double>(n) / 8;
  for (size_t e = 0; e < 8; ++e) {
    const auto load = static_cast<double>(r.expert_tokens[0][e]);
    const float want = load < mean ? 1e-3f : load > mean ? -1e-3f : 0.0f;
    EXPECT_EQ(p.value(index).data[e], want) << e;
  }
}

TEST(Trainer, ThreadsAndPassSizeLeaveTheRightThingsAlone) {
  Bench one(Options(), 1), three(Options(), 3);
  for (uint64_t s = 0; s < 3; ++s) EXPECT_EQ(one.Step(s).loss, three.Step(s).loss);
  EXPECT_EQ(one.weights(), three.weights());
  TrainOptions larger = Options();
  larger.micro_tokens = 4096;  // sums in another order
  Bench passes(larger);
  EXPECT_NEAR(passes.Step(0).loss, Bench(Options()).Step(0).loss, 1e-6);
}

TEST(Trainer, ResumingGivesTheBitsOfNeverHavingStopped) {
  for (const MomentType moments : {MomentType::kF32, MomentType::kBF16}) {
    TrainOptions o = Options();
    o.optimizer.moments = moments;
    const std::string run = testing::TempDir() + "hadal-resume";
    Bench whole(o);
    for (uint64_t s = 0; s < 6; ++s) whole.Step(s);
    {
      Bench first(o);
      for (uint64_t s = 0; s < 3; ++s) first.Step(s);
      SaveIn(run, first, o);
    }
    ASSERT_EQ(ListCheckpoints(run), std::vector<int64_t>{3});
    Bench second(o);
    const std::string folder = CheckpointFolder(run, 3);
    const CheckpointState saved = ReadCheckpointState(folder).value();
    const Status loaded =
        LoadCheckpoint(folder, *second.trainer, *second.model, saved, o.Fingerprint());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    for (uint64_t s = 3; s < 6; ++s) second.Step(s);
    EXPECT_EQ(second.weights(), whole.weights());
    EXPECT_EQ(second.trainer->state().tokens, whole.trainer->state().tokens);
  }
}

TEST(Checkpoint, RefusesOtherModelsOtherOptionsAndDamage) {
  const std::string run = testing::TempDir() + "hadal-refuse";
  Bench b(Options());
  b.Step(0);
  const CheckpointState state = SaveIn(run, b, Options());
  const std::string folder = CheckpointFolder(run, 1);
  const auto load = [&](const CheckpointState& s, const std::string& fingerprint) {
    const Status status = LoadCheckpoint(folder, *b.trainer, *b.model, s, fingerprint);
    return status.ok() ? std::string() : status.error().message;
  };
  TrainOptions other = Options();
  other.optimizer.beta2 = 0.99;
  EXPECT_NE(load(state, other.Fingerprint()).find("0.99"), std::string::npos);
  CheckpointState strange = state;
  strange.model = "{}";
  EXPECT_NE(load(strange, state.fingerprint).find("another model"), std::string::npos);
  fs::resize_file(folder + "/optimizer.safetensors", 100);
  EXPECT_FALSE(load(state, state.fingerprint).empty());
  ASSERT_TRUE(WriteFileAtomic(folder + "/state.json", "{\"step\": 1").ok());
  EXPECT_FALSE(ReadCheckpointState(folder).ok());
}

TEST(Checkpoint, PrunesAllButTheNewestAndTheBest) {
  const std::string run = testing::TempDir() + "hadal-prune";
  fs::remove_all(run);
  for (const int step : {1, 2, 3, 4, 5}) {
    fs::create_directories(CheckpointFolder(run, step));
    ASSERT_TRUE(WriteFileAtomic(CheckpointFolder(run, step) + "/state.json", "{}").ok());
  }
  fs::create_directories(run + "/.writing-6");  // a killed writer's
  PruneCheckpoints(run, 2, 1);
  EXPECT_EQ(ListCheckpoints(run), (std::vector<int64_t>{1, 4, 5}));
  EXPECT_FALSE(fs::exists(run + "/.writing-6"));
}

TEST(Trainer, AdaptersTrainAndLeaveTheRest) {
  TrainOptions o = Options();
  o.lora.rank = 8;
  o.lora.alpha = 32;
  o.lora.targets = {"lm_head", "self_attn", "_proj.weight"};
  o.schedule.learning_rate = 1e-2;
  Bench b(o);
  const Parameters& p = b.model->parameters();
  const int64_t embed = p.Find("model.embed_tokens.weight");
  const std::vector<float> before(p.value(embed).data, p.value(embed).data + 64 * 32);
  const double first = b.Step(0).loss;
  double last = first;
  for (uint64_t s = 1; s < 40; ++s) last = b.Step(s).loss;
  EXPECT_LT(last, 0.9 * first);
  EXPECT_EQ(std::memcmp(before.data(), p.value(embed).data, 64 * 32 * 4), 0);
  o.lora.targets = {"no_such_projection"};
  Bench plain(Options());
  EXPECT_FALSE(Trainer::Create(plain.exec, *plain.world, *plain.model, o).ok());
}

TEST(Trainer, GroupsWithoutARateAreFrozenWhateverTheDecay) {
  for (const auto kind : {OptimizerOptions::Kind::kAdamW, OptimizerOptions::Kind::kMuon}) {
    TrainOptions o = Options();
    o.optimizer.kind = kind;
    o.optimizer.weight_decay = 1;
    o.groups = {{.match = "layers.0.", .lr_scale = 0, .decay_scale = 5}};
    Bench b(o);
    const std::vector<float> before = b.weights();
    for (uint64_t s = 0; s < 3; ++s) b.Step(s);
    const Parameters& p = b.model->parameters();
    for (size_t i = 0; i < p.entries().size(); ++i) {
      const Parameters::Entry& e = p.entries()[i];
      const View2<float> now = p.value(static_cast<int64_t>(i));
      const bool same = std::memcmp(now.data, before.data() + e.offset,
                                    static_cast<size_t>(e.size()) * sizeof(float)) == 0;
      const bool frozen = e.spec.name.find("layers.0.") != std::string::npos;
      if (frozen || e.matrix()) {
        EXPECT_EQ(same, frozen) << e.spec.name;
      }
    }
  }
}

TEST(Trainer, AdaptersAreMergedInTheModelAndResumeToTheBit) {
  TrainOptions o = Options();
  o.lora.rank = 4;
  o.lora.alpha = 8;
  const std::string run = testing::TempDir() + "hadal-resume-lora";
  Bench whole(o);
  for (uint64_t s = 0; s < 3; ++s) whole.Step(s);
  const CheckpointState state = SaveIn(run, whole, o);
  std::map<std::string, std::vector<float>> parts;
  ASSERT_TRUE(whole.trainer
                  ->VisitOptimizer([&](const Trainer::StateTensor& t) -> Status {
                    parts[t.name] = {t.values.begin(), t.values.end()};
                    return {};
                  })
                  .ok());
  const Parameters& p = whole.model->parameters();
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  ASSERT_TRUE(parts.contains("lora_A." + name));
  const std::vector<float>&a = parts["lora_A." + name], &b = parts["lora_B." + name];
  const View2<float> w = p.value(p.Find(name));
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int64_t c = 0; c < w.cols; ++c) {
      double merged = parts["base." + name][static_cast<size_t>(r * w.cols + c)];
      for (int64_t k = 0; k < 4; ++k) {
        merged += 2.0 * b[static_cast<size_t>(r * 4 + k)] * a[static_cast<size_t>(k * w.cols + c)];
      }
      ASSERT_NEAR(w.row(r)[c], merged, 1e-6) << r << ", " << c;
    }
  }
  for (uint64_t s = 3; s < 6; ++s) whole.Step(s);

  Bench second(o);
  const std::string folder = CheckpointFolder(run, 3);
  const Status loaded = LoadCheckpoint(folder, *second.trainer, *second.model,
                                       ReadCheckpointState(folder).value(), o.Fingerprint());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  for (uint64_t s = 3; s < 6; ++s) second.Step(s);
  EXPECT_EQ(second.weights(), whole.weights());
}

// What a run with adapters leaves is a plain model: whoever loads it gets the logits of the model
// in training, to the bit.
TEST(Trainer, AdaptersAreInTheExportedModel) {
  TrainOptions o = Options();
  o.lora.rank = 4;
  Bench b(o);
  const std::vector<int32_t> tokens = {1, 8, 43, 26, 5};
  const std::array<int32_t, 1> block = {0};
  const auto logits = [&](Model& model) {
    const KvCache cache(model.config(), KvType::kF16, 1);
    const SeqInput seq = {.blocks = block.data(), .tokens = tokens, .logits = 5};
    const ForwardResult r = model.Forward(std::span(&seq, 1), cache);
    std::vector<float> out;
    for (int64_t i = 0; i < r.logits.rows; ++i) {
      out.insert(out.end(), r.logits.row(i), r.logits.row(i) + r.logits.cols);
    }
    return out;
  };
  const std::vector<float> before = logits(b.model->model());
  for (uint64_t s = 0; s < 5; ++s) b.Step(s);
  const std::vector<float> trained = logits(b.model->model());
  EXPECT_NE(trained, before);
  const std::string folder = testing::TempDir() + "hadal-lora-model";
  fs::remove_all(folder);
  ASSERT_TRUE(SaveModel(folder, *b.world, *b.trainer, *b.model, {}).ok());
  for (const auto& entry : fs::directory_iterator(folder)) {
    EXPECT_EQ(entry.path().string().find("adapter"), std::string::npos) << entry.path();
  }
  const auto loaded = Model::Load(b.exec, WeightFile::Open(folder).value());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(logits(**loaded), trained);
}

TEST(Trainer, SkipsSpikesStopsAtNaNAndRefusesMaskedBatches) {
  TrainOptions o = Options();
  o.spike_factor = 1e-3;  // everything after the first step
  Bench b(o);
  b.Step(0);
  const std::vector<float> before = b.weights();
  const StepRecord skipped = b.Step(1);
  EXPECT_TRUE(skipped.skipped);
  EXPECT_NE(skipped.note.find("skipped"), std::string::npos);
  EXPECT_EQ(b.weights(), before);

  std::vector<PackedSequence> masked = Data(8, 0);
  for (PackedSequence& s : masked) std::fill(s.loss.begin(), s.loss.end(), uint8_t{0});
  const Result<StepRecord> none = b.trainer->Step(masked);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("loss mask"), std::string::npos);

  Bench broken(Options());
  const Parameters& p = broken.model->parameters();
  const int64_t index = p.Find("model.layers.1.self_attn.o_proj.weight");
  p.value(index).data[5] = std::numeric_limits<float>::quiet_NaN();
  const Status published = broken.model->Publish();
  ASSERT_FALSE(published.ok());
  EXPECT_NE(published.error().message.find("layers.1.self_attn.o_proj"), std::string::npos);
}

TEST(Schedule, FollowsItsShape) {
  ScheduleOptions s;
  s.learning_rate = 1;
  s.final_ratio = 0.1;
  s.warmup_steps = 10;
  for (const auto kind :
       {ScheduleOptions::Kind::kConstant, ScheduleOptions::Kind::kLinear,
        ScheduleOptions::Kind::kCosine, ScheduleOptions::Kind::kWarmupStableDecay}) {
    s.kind = kind;
    EXPECT_DOUBLE_EQ(LearningRate(s, 5, 110), 0.5);
    EXPECT_DOUBLE_EQ(LearningRate(s, 10, 110), 1);
    EXPECT_NEAR(LearningRate(s, 110, 110), kind == ScheduleOptions::Kind::kConstant ? 1 : 0.1,
                1e-12);
  }
  s.kind = ScheduleOptions::Kind::kCosine;
  EXPECT_NEAR(LearningRate(s, 60, 110), 0.55, 1e-12);
  s.kind = ScheduleOptions::Kind::kWarmupStableDecay;
  EXPECT_DOUBLE_EQ(LearningRate(s, 90, 110), 1);
  EXPECT_NEAR(LearningRate(s, 100, 110), 0.55, 1e-12);
}

}  // namespace
}  // namespace hadal
