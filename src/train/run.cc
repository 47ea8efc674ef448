#include "train/run.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/file.h"
#include "base/hash.h"
#include "data/shard.h"
#include "formats/weight_file.h"
#include "kernels/limits.h"
#include "model/trainable.h"
#include "tokenizer/tokenizer.h"
#include "train/checkpoint.h"
#include "train/expert_parallel.h"
#include "train/ledger.h"
#include "train/live_view.h"
#include "train/metrics.h"
#include "train/teacher.h"
#include "train/trainer.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::array kTokenizerFiles = {"tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "special_tokens_map.json",
                                        "chat_template.jinja"};

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

uint64_t PeakRss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) << 10;
}

class Run {
 public:
  Run(const Exec& exec, World& world, const RunOptions& options)
      : exec_(exec), world_(world), o_(options) {}

  Result<RunSummary> Go();

 private:
  Status Prepare();
  Status OpenModel();
  Status OpenTokenizer();
  Status OpenData();
  Status Resume();
  Status WriteRunFile() const;
  Status Loop();
  Status OneStep();
  Status Validate(StepRecord& record);
  Status Evaluate(StepRecord& record);
  Status Save();
  Status Finish();
  Status LoadBest();
  double Pairs(std::span<const PackedSequence> batch) const;
  bool root() const { return world_.rank() == 0; }

  const Exec& exec_;
  World& world_;
  const RunOptions& o_;
  std::unique_ptr<ExpertParallel> parallel_;  // null: every rank keeps all experts
  std::unique_ptr<TrainableModel> model_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string tokenizer_hash_;
  ModelTexts texts_;
  std::optional<Loader> loader_;
  std::vector<PackedSequence> validation_;
  int64_t validation_bytes_ = 0;
  CheckpointState state_;
  std::optional<MetricsWriter> metrics_, samples_;
  std::unique_ptr<LiveView> view_;
  std::unique_ptr<LedgerMeter> meter_;
  std::optional<Ledger> earlier_;  // sessions before this one
  TrainFlops flops_;
  double peak_ = 0;  // operations a second of the type computed in
  Clock::time_point start_;
  bool stop_ = false, improved_ = false;
  RunSummary summary_;
};

// Whatever happens on one rank happens on all: the others wait in collectives.
Status Together(World& world, Status mine) {
  if (world.alone()) return mine;
  std::array<int64_t, 1> failed = {mine.ok() ? 0 : 1};
  world.AllReduce(std::span<int64_t>(failed));
  if (failed[0] == 0 || !mine.ok()) return mine;
  return Error{Code::kCancelled, "another rank failed; its message says why"};
}

Status Run::OpenTokenizer() {
  if (o_.tokenizer.empty()) return {};
  for (const char* name : kTokenizerFiles) {
    const std::string path = o_.tokenizer + "/" + name;
    if (!fs::exists(path)) continue;
    texts_.push_back({name, TRY(ReadFile(path, 64 << 20))});
  }
  const auto text = [&](std::string_view name) -> std::string {
    for (const FolderText& t : texts_) {
      if (t.name == name) return t.text;
    }
    return {};
  };
  const std::string json = text("tokenizer.json");
  if (json.empty()) {
    return Error{Code::kNotFound, o_.tokenizer + ": holds no tokenizer.json"};
  }
  Result<Tokenizer> t = Tokenizer::FromJson(json, text("tokenizer_config.json"));
  if (!t.ok()) return Error{t.error().code, o_.tokenizer + ": " + t.error().message};
  tokenizer_ = std::make_unique<Tokenizer>(std::move(t).value());
  tokenizer_hash_ = TokenizerHash(*tokenizer_);
  return {};
}

Status Run::OpenModel() {
  std::optional<WeightFile> file;
  std::optional<ModelConfig> config;
  if (!o_.from.empty()) {
    file = TRY(WeightFile::Open(o_.from));
    config = TRY(ModelConfig::FromFile(*file));
  } else {
    config = TRY(ModelConfig::FromJson(o_.config));
  }
  if (tokenizer_ != nullptr && tokenizer_->vocab_size() > config->vocab) {
    return Error{Code::kInvalid,
                 fmt::format("vocab_size {} of the model is smaller than the {} tokens of {}",
                             config->vocab, tokenizer_->vocab_size(), o_.tokenizer)};
  }
  if (o_.options.sequence_length > config->context) {
    return Error{Code::kInvalid,
                 fmt::format("sequence_length {} exceeds the model's max_position_embeddings {}",
                             o_.options.sequence_length, config->context)};
  }
  model_ = TRY(TrainableModel::Create(exec_, *config, o_.options.compute, parallel_.get()));
  if (file) {
    TRY(model_->parameters().Read(*file, *config));
  } else {
    model_->parameters().Initialise(exec_, o_.options.seed,
                                    static_cast<float>(o_.options.init_std));
  }
  flops_ = CountTrainFlops(*config);
  return {};
}

Status Run::OpenData() {
  LoaderOptions data;
  data.sets = o_.train;
  data.sequence_length = o_.options.sequence_length;
  data.seed = o_.options.seed;
  data.tokenizer_hash = tokenizer_hash_;
  loader_ = TRY(Loader::Open(data));
  if (loader_->vocab_size() > model_->config().vocab) {
    return Error{Code::kInvalid, fmt::format("the data has ids up to {}, the model a vocabulary "
                                             "of {}",
                                             loader_->vocab_size(), model_->config().vocab)};
  }
  TRY(CheckStoredLogits(o_.options.teacher, o_.train, data.sequence_length));
  if (o_.validation.empty() || o_.options.validate_every == 0) return {};
  data.sets = o_.validation;
  data.once = true;
  Loader held_out = TRY(Loader::Open(data));
  validation_ = TRY(held_out.Next(o_.options.validate_sequences));
  if (validation_.empty()) {
    return Error{Code::kInvalid, o_.validation[0].path + ": the validation set is empty"};
  }
  if (tokenizer_ == nullptr) return {};
  for (const PackedSequence& s : validation_) {
    for (size_t i = 0; i < s.tokens.size(); ++i) {
      if (s.loss[i] == 0 || tokenizer_->IsSpecial(s.tokens[i])) continue;
      validation_bytes_ += static_cast<int64_t>(tokenizer_->Piece(s.tokens[i]).size());
    }
  }
  return {};
}

Status Run::Resume() {
  state_.fingerprint = o_.options.Fingerprint();
  state_.model = model_->config().ToJson("float32");
  state_.cursor = loader_->cursor().ToJson();
  const std::vector<int64_t> steps = ListCheckpoints(o_.folder);
  if (o_.restart || steps.empty()) return {};
  const std::string folder = CheckpointFolder(o_.folder, steps.back());
  const CheckpointState saved = TRY(ReadCheckpointState(folder));
  TRY(LoadCheckpoint(folder, *trainer_, *model_, saved, state_.fingerprint));
  TRY(loader_->Seek(TRY(Cursor::FromJson(saved.cursor))));
  state_ = saved;
  stop_ = saved.ended != CheckpointState::Ended::kNot;
  if (root() && fs::exists(o_.folder + "/ledger.json")) {
    earlier_ = TRY(ReadLedger(o_.folder + "/ledger.json"));
  }
  return {};
}

Status Run::WriteRunFile() const {
  nlohmann::json run = {
      {"program", "hadal"},
      {"title", o_.title},
      {"commands", o_.commands},
      {"seed", o_.options.seed},
      {"options", state_.fingerprint},
      {"from", o_.from},
      {"tokenizer_sha256", tokenizer_hash_},
      {"recipe_sha256", Sha256Hex(o_.recipe)},
      {"parameters", model_->parameters().count()},
      {"steps", o_.options.steps},
      {"ranks", world_.size()},
      {"threads", exec_.threads()},
      {"isa", IsaName(exec_.isa())},
      {"peak_flops", peak_},
      {"config", nlohmann::json::parse(state_.model)},
  };
  for (const WeightedSet& set : o_.train) {
    run["train"].push_back({{"path", set.path}, {"weight", set.weight}});
  }
  if (!o_.recipe.empty()) TRY(WriteFileAtomic(o_.folder + "/recipe.toml", o_.recipe));
  return WriteFileAtomic(o_.folder + "/run.json", run.dump(2) + "\n");
}

Status Run::Prepare() {
  TRY(OpenTokenizer());
  TRY(OpenModel());
  TRY(OpenData());
  trainer_ = TRY(Trainer::Create(exec_, world_, *model_, o_.options, parallel_.get()));
  TRY(Resume());
  peak_ = PeakOps(MeasureLimits(exec_), o_.options.compute) * world_.size();
  if (!root()) return {};
  std::error_code ec;
  fs::create_directories(o_.folder, ec);
  if (ec) return Error{Code::kIo, o_.folder + ": cannot be made: " + ec.message()};
  TRY(WriteRunFile());
  const int64_t step = trainer_->state().step;
  metrics_ = TRY(MetricsWriter::Open(o_.folder + "/metrics.jsonl", step));
  if (o_.evaluate.run) {
    samples_ = TRY(MetricsWriter::Open(o_.folder + "/samples.jsonl", step));
  }
  if (!o_.quiet) {
    view_ =
        std::make_unique<LiveView>(LiveOptions{.title = o_.title, .total_steps = o_.options.steps});
  }
  return {};
}

double Run::Pairs(std::span<const PackedSequence> batch) const {
  double pairs = 0;
  for (const PackedSequence& s : batch) {
    for (size_t d = 0; d < s.document_first.size(); ++d) {
      const auto end = d + 1 < s.document_first.size() ? s.document_first[d + 1]
                                                       : static_cast<int32_t>(s.tokens.size());
      const double n = end - s.document_first[d];
      pairs += n * (n + 1) / 2;
    }
  }
  return pairs;
}

Status Run::Validate(StepRecord& record) {
  const Trainer::Validation v = TRY(trainer_->Validate(validation_));
  record.validation_loss = v.loss;
  if (validation_bytes_ > 0) {
    record.validation_bits_per_byte =
        v.total_nats / std::numbers::ln2 / static_cast<double>(validation_bytes_);
  }
  if (state_.best_step == 0 || v.loss < state_.best_validation) {
    state_.best_validation = v.loss;
    state_.best_step = record.step;
    state_.worse_validations = 0;
    improved_ = true;
  } else {
    ++state_.worse_validations;
  }
  summary_.validation_loss = record.validation_loss;
  summary_.validation_bits_per_byte = record.validation_bits_per_byte;
  if (o_.options.patience > 0 && state_.worse_validations >= o_.options.patience) {
    state_.ended = CheckpointState::Ended::kPatience;
    stop_ = true;
    record.note = fmt::format(
        "stopped early: {} validations without a better one than {:.4f} at "
        "step {}",
        state_.worse_validations, state_.best_validation, state_.best_step);
  }
  return {};
}

// Rank 0 asks the model, and all of them learn whether that was good enough. A failure costs the
// evaluation, not the training.
Status Run::Evaluate(StepRecord& record) {
  std::array<int64_t, 1> reached = {0};
  if (root()) {
    const Clock::time_point begin = Clock::now();
    Result<Evaluated> found = o_.evaluate.run(model_->model());
    std::string note = found.ok() ? found->note : "evaluation failed: " + found.error().message;
    if (found.ok()) {
      found->scores.seconds = Since(begin);
      const double pass = found->scores.pass_at_1;
      std::string lines;
      for (const EvaluatedSample& s : found->samples) lines += SampleLine(record.step, s);
      TRY(samples_->AppendLines(lines));
      if (o_.evaluate.stop_at && pass >= *o_.evaluate.stop_at) {
        reached[0] = 1;
        note += fmt::format("{}stopped: pass@1 {:.4f} reached stop_at {}", note.empty() ? "" : "; ",
                            pass, *o_.evaluate.stop_at);
      }
      summary_.pass_at_1 = pass;
      record.evaluation = std::move(found->scores);
    }
    if (!note.empty()) record.note += (record.note.empty() ? "" : "; ") + note;
  }
  world_.Max(std::span<int64_t>(reached));
  if (reached[0] == 0) return {};
  // The model that is good enough goes on, whatever its validation loss.
  state_.ended = CheckpointState::Ended::kTarget;
  stop_ = true;
  return {};
}

Status Run::Save() {
  state_.trainer = trainer_->state();
  state_.cursor = loader_->cursor().ToJson();
  TRY(SaveCheckpoint(o_.folder, world_, *trainer_, *model_, state_, texts_));
  const std::vector<std::string> ledgers = world_.GatherStrings(meter_->Read().ToJson());
  if (!root()) return {};
  PruneCheckpoints(o_.folder, o_.options.keep_checkpoints, state_.best_step);
  TRY(metrics_->Sync());
  std::vector<Ledger> ranks;
  for (const std::string& text : ledgers) ranks.push_back(TRY(Ledger::FromJson(text)));
  Ledger ledger = MergeRanks(ranks);
  if (earlier_) ledger = MergeSessions(*earlier_, ledger);
  return WriteLedger(ledger, o_.folder + "/ledger.json");
}

Status Run::OneStep() {
  const Clock::time_point begin = Clock::now();
  const auto batch = TRY(loader_->Next(o_.options.batch_sequences));
  StepRecord record = TRY(trainer_->Step(batch));
  record.seconds = Since(begin);
  record.tokens_per_second = static_cast<double>(record.tokens) / record.seconds;
  const bool mtp = o_.options.mtp_weight > 0;
  record.model_flops = flops_.Of(static_cast<double>(record.tokens), Pairs(batch), mtp);
  record.peak_share = record.model_flops / record.seconds / peak_;
  const int64_t every = o_.options.validate_every;
  const bool last = record.step == o_.options.steps;
  if (!validation_.empty() && every > 0 && (record.step % every == 0 || last)) {
    TRY(Validate(record));
  }
  if (o_.evaluate.run && (record.step % o_.evaluate.every == 0 || last)) TRY(Evaluate(record));
  state_.elapsed_seconds += Since(begin);
  record.elapsed_seconds = state_.elapsed_seconds;
  record.rss_bytes = PeakRss();
  summary_.loss = record.loss;
  if (root()) {
    meter_->Add(record.tokens, record.model_flops);
    TRY(metrics_->Append(record));
    if (view_ != nullptr) {
      const Ledger so_far = meter_->Read();
      view_->Update(record, earlier_ ? MergeSessions(*earlier_, so_far) : so_far);
    }
  }
  std::array<int64_t, 1> interrupted = {o_.interrupted && o_.interrupted() ? 1 : 0};
  world_.Max(std::span<int64_t>(interrupted));
  if (interrupted[0] != 0) summary_.interrupted = stop_ = true;
  const int64_t checkpoint = o_.options.checkpoint_every;
  const bool due = checkpoint > 0 && (record.step % checkpoint == 0 || improved_);
  improved_ = false;
  if (stop_ || last || due) TRY(Save());
  return {};
}

Status Run::Loop() {
  while (!stop_ && trainer_->state().step < o_.options.steps) {
    const Status done = OneStep();
    // The other ranks may be waiting in a collective for this one.
    if (!done.ok() && !world_.alone()) world_.Abort(done.error().message);
    TRY(Status(done));
  }
  return {};
}

Status Run::Finish() {
  summary_.steps = trainer_->state().step;
  summary_.tokens = trainer_->state().tokens;
  summary_.parameters = model_->parameters().count();
  summary_.seconds = state_.elapsed_seconds;
  if (summary_.interrupted && summary_.steps < o_.options.steps) return {};
  summary_.interrupted = false;
  summary_.stopped_early = state_.ended != CheckpointState::Ended::kNot;
  if (state_.ended == CheckpointState::Ended::kPatience) TRY(Together(world_, LoadBest()));
  summary_.model = o_.folder + "/model";
  return SaveModel(summary_.model, world_, *trainer_, *model_, texts_);
}

// Of a run that was stopped early the best one goes on, not the last.
Status Run::LoadBest() {
  const std::string best = CheckpointFolder(o_.folder, state_.best_step);
  const CheckpointState saved = TRY(ReadCheckpointState(best));
  TRY(LoadCheckpoint(best, *trainer_, *model_, saved, state_.fingerprint));
  summary_.validation_loss = saved.best_validation;
  return {};
}

Result<RunSummary> Run::Go() {
  start_ = Clock::now();
  meter_ =
      std::make_unique<LedgerMeter>(MeterOptions{.price_per_core_hour = o_.price_per_core_hour});
  if (o_.options.expert_parallel > 1) {
    if (o_.evaluate.run) {
      return Error{Code::kUnsupported,
                   "expert_parallel: evaluation needs all experts on one rank; set it to 1"};
    }
    parallel_ = TRY(ExpertParallel::Create(world_, o_.options.expert_parallel));
  }
  TRY(Together(world_, Prepare()));
  TRY(Loop());
  TRY(Together(world_, Finish()));
  return summary_;
}

}  // namespace

Result<RunSummary> RunTraining(const Exec& exec, World& world, const RunOptions& options) {
  return Run(exec, world, options).Go();
}

}  // namespace hadal
