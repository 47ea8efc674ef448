#include "train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/file.h"
#include "formats/weight_file.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kTemporary = ".writing-";

Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Error{Code::kIo, folder + ": cannot open: " + std::strerror(errno)};
  const int failed = fsync(fd);
  const int why = errno;
  close(fd);
  if (failed != 0) return Error{Code::kIo, folder + ": cannot sync: " + std::strerror(why)};
  return {};
}

std::vector<TensorSpec> ModelSpecs(const Parameters& p) {
  std::vector<TensorSpec> specs;
  for (const Parameters::Entry& e : p.entries()) {
    specs.push_back({e.spec.name, DType::kF32, e.spec.shape});
  }
  return specs;
}

Status WriteOptimizer(const std::string& path, Trainer& trainer, World& world) {
  // The tensors come one at a time and only once; their bytes wait in memory for the header.
  std::vector<TensorSpec> specs;
  std::vector<std::vector<float>> values;
  TRY(trainer.VisitOptimizer([&](const Trainer::StateTensor& t) -> Status {
    specs.push_back({t.name, DType::kF32, t.shape});
    values.emplace_back(t.values.begin(), t.values.end());
    return {};
  }));
  if (world.rank() != 0) return {};
  return WriteSafetensors(path, specs, [&](size_t i, std::span<std::byte> out) -> Status {
    std::memcpy(out.data(), values[i].data(), out.size());
    return {};
  });
}

std::optional<int64_t> StepOf(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return {};
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || at != end) return {};
  return step;
}

}  // namespace

std::string CheckpointState::ToJson() const {
  return Json{{"step", trainer.step},
              {"tokens", trainer.tokens},
              {"mean_grad_norm", fmt::format("{:a}", trainer.mean_grad_norm)},
              {"skipped", trainer.skipped},
              {"cursor", cursor},
              {"fingerprint", fingerprint},
              {"model", model},
              {"best_validation", fmt::format("{:a}", best_validation)},
              {"best_step", best_step},
              {"worse_validations", worse_validations},
              {"elapsed_seconds", elapsed_seconds},
              {"ended", static_cast<int>(ended)}}
             .dump(2) +
         "\n";
}

Result<CheckpointState> CheckpointState::FromJson(std::string_view text, const std::string& where) {
  const Json j = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Error broken = {Code::kCorrupt, where + ": is not the state of a run; is it damaged?"};
  if (!j.is_object()) return broken;
  CheckpointState s;
  try {
    s.trainer.step = j.at("step");
    s.trainer.tokens = j.at("tokens");
    s.trainer.skipped = j.at("skipped");
    s.trainer.mean_grad_norm =
        std::strtod(j.at("mean_grad_norm").get_ref<const std::string&>().c_str(), nullptr);
    s.cursor = j.at("cursor");
    s.fingerprint = j.at("fingerprint");
    s.model = j.at("model");
    s.best_validation =
        std::strtod(j.at("best_validation").get_ref<const std::string&>().c_str(), nullptr);
    s.best_step = j.at("best_step");
    s.worse_validations = j.at("worse_validations");
    s.elapsed_seconds = j.at("elapsed_seconds");
    const int ended = j.value("ended", 0);
    if (ended < 0 || ended > static_cast<int>(Ended::kTarget)) return broken;
    s.ended = static_cast<Ended>(ended);
  } catch (const Json::exception&) {
    return broken;
  }
  return s;
}

Status SaveModel(const std::string& folder, World& world, Trainer& trainer, TrainableModel& model,
                 const ModelTexts& texts) {
  const Parameters& p = model.parameters();
  const auto count = static_cast<int64_t>(p.entries().size());
  int64_t next = 0;  // parameter that the ranks bring together
  std::vector<float> values;
  const auto bring = [&] {
    values.resize(static_cast<size_t>(p.entries()[static_cast<size_t>(next)].size()));
    trainer.Master(next++, values);
  };
  if (world.rank() != 0) {
    while (next < count) bring();
    return {};
  }
  ModelTexts all = texts;
  all.push_back({"config.json", model.config().ToJson("float32")});
  const Status written = WriteHuggingFaceFolder(
      folder, ModelSpecs(p),
      [&](size_t i, std::span<std::byte> out) -> Status {
        CHECK(static_cast<int64_t>(i) == next);
        bring();
        std::memcpy(out.data(), values.data(), out.size());
        return {};
      },
      all);
  while (next < count) bring();  // the other ranks do not know of an error
  return written;
}

std::string CheckpointFolder(const std::string& run, int64_t step) {
  return run + "/step-" + std::to_string(step);
}

Status SaveCheckpoint(const std::string& run, World& world, Trainer& trainer, TrainableModel& model,
                      const CheckpointState& state, const ModelTexts& texts) {
  const std::string target = CheckpointFolder(run, state.trainer.step);
  const std::string temporary = run + "/" + kTemporary + std::to_string(state.trainer.step);
  std::error_code ec;
  if (world.rank() == 0) {
    fs::remove_all(temporary, ec);
    fs::create_directories(temporary, ec);
  }
  const Status optimizer = WriteOptimizer(temporary + "/" + kOptimizerFile, trainer, world);
  if (world.rank() != 0) return SaveModel(temporary, world, trainer, model, texts);
  const auto finish = [&]() -> Status {
    const Status saved = SaveModel(temporary, world, trainer, model, texts);
    TRY(Status(optimizer));
    TRY(Status(saved));
    TRY(WriteFileAtomic(temporary + "/" + kStateFile, state.ToJson()));
    TRY(SyncFolder(temporary));
    fs::remove_all(target, ec);
    fs::rename(temporary, target, ec);
    if (ec) return Error{Code::kIo, target + ": cannot rename into place: " + ec.message()};
    return SyncFolder(run);
  };
  const Status done = finish();
  if (!done.ok()) fs::remove_all(temporary, ec);
  return done;
}

std::vector<int64_t> ListCheckpoints(const std::string& run) {
  std::vector<int64_t> steps;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(run, ec)) {
    const auto step = StepOf(entry.path().filename().string());
    if (step && fs::exists(entry.path() / kStateFile, ec)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

Result<CheckpointState> ReadCheckpointState(const std::string& folder) {
  const std::string path = folder + "/" + kStateFile;
  const std::string text = TRY(ReadFile(path, 1 << 24));
  return CheckpointState::FromJson(text, path);
}

namespace {

// Words of two fingerprints that are not the same.
std::string Difference(const std::string& a, const std::string& b) {
  size_t i = 0;
  while (i < a.size() && i < b.size() && a[i] == b[i]) ++i;
  const size_t word = a.rfind(' ', i == 0 ? 0 : i - 1);
  const size_t begin = word == std::string::npos ? 0 : word + 1;
  const auto cut = [&](const std::string& s) {
    return begin < s.size() ? s.substr(begin, s.find(' ', begin) - begin) : std::string("(end)");
  };
  return cut(a) + " there, " + cut(b) + " here";
}

}  // namespace

Status LoadCheckpoint(const std::string& folder, Trainer& trainer, TrainableModel& model,
                      const CheckpointState& state, const std::string& fingerprint) {
  if (state.model != model.config().ToJson("float32")) {
    return Error{Code::kInvalid, folder +
                                     ": is a checkpoint of another model; its config.json "
                                     "differs from the recipe's"};
  }
  if (state.fingerprint != fingerprint) {
    return Error{Code::kInvalid, folder + ": was trained with other options (" +
                                     Difference(state.fingerprint, fingerprint) +
                                     "); use the recipe it was made with, or another run folder"};
  }
  {
    const WeightFile file = TRY(WeightFile::Open(folder));
    TRY(model.parameters().Read(file, model.config()));
  }
  const std::string path = folder + "/" + kOptimizerFile;
  const WeightFile file = TRY(WeightFile::Open(path));
  TRY(trainer.RestoreOptimizer([&](const Trainer::StateTensor& t) -> Status {
    const TensorInfo* info = file.Find(t.name);
    if (info == nullptr || info->type != DType::kF32 || info->shape != t.shape) {
      return Error{Code::kCorrupt, path + ": tensor " + t.name + " is missing or of another shape"};
    }
    std::memcpy(t.values.data(), info->bytes.data(), t.values.size_bytes());
    return {};
  }));
  TRY(file.CheckIntact());
  trainer.RestoreState(state.trainer);
  return model.Publish();
}

void PruneCheckpoints(const std::string& run, int64_t keep, int64_t best_step) {
  std::error_code ec;
  const std::vector<int64_t> steps = ListCheckpoints(run);
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool newest = static_cast<int64_t>(steps.size() - i) <= keep;
    if (newest || steps[i] == best_step) continue;
    fs::remove_all(CheckpointFolder(run, steps[i]), ec);
  }
  for (const auto& entry : fs::directory_iterator(run, ec)) {
    if (entry.path().filename().string().starts_with(kTemporary)) fs::remove_all(entry.path(), ec);
  }
}

}  // namespace hadal
