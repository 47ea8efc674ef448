// The recipe stage that trains: pretraining, fine-tuning, distillation.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/evaluation_table.h"
#include "cli/recipe.h"
#include "model/config.h"
#include "tokenizer/tokenizer.h"
#include "train/run.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::json;

// config.json of the [model] table: the size of the vocabulary and the ids of its marks come from
// the tokenizer where the table does not say.
Result<std::string> ModelJson(ConfigTable& model, const std::string& tokenizer_folder,
                              bool check_only) {
  Json j = Json::parse(model.ToJson(), nullptr, false);
  if (!j.is_object()) return model.At("", "is not a model's configuration");
  if (!tokenizer_folder.empty() && !check_only) {
    const std::string text = TRY(ReadFile(tokenizer_folder + "/tokenizer.json", 64 << 20));
    const Result<std::string> config =
        ReadFile(tokenizer_folder + "/tokenizer_config.json", 64 << 20);
    const Tokenizer t = TRY(Tokenizer::FromJson(text, config.ok() ? *config : ""));
    if (!j.contains("vocab_size")) j["vocab_size"] = (t.vocab_size() + 15) / 16 * 16;
    if (t.bos() && !j.contains("bos_token_id")) j["bos_token_id"] = *t.bos();
    if (t.eos() && !j.contains("eos_token_id")) j["eos_token_id"] = *t.eos();
  }
  if (!j.contains("vocab_size")) j["vocab_size"] = 4096;  // for the check alone
  const std::string text = j.dump();
  const Result<ModelConfig> parsed = ModelConfig::FromJson(text);
  if (!parsed.ok()) return model.At("", parsed.error().message);
  return text;
}

Status ReadData(const StageCall& call, RunOptions& o) {
  ConfigTable& t = call.table;
  const std::vector<std::string> sets = TRY(t.Texts("data"));
  if (sets.empty()) return t.At("data", "missing; a list of dataset stages or shard folders");
  const bool validates = TRY(t.Flag("validate", true));
  const std::vector<double> weights = TRY(t.Numbers("data_weights"));
  if (!weights.empty() && weights.size() != sets.size()) {
    return t.At("data_weights", fmt::format("{} weights for {} sets", weights.size(), sets.size()));
  }
  const std::vector<std::string> held_out = TRY(t.Texts("validation"));
  for (size_t i = 0; i < sets.size(); ++i) {
    const std::string path = TRY(call.run.Resolve(t, "data", sets[i]));
    const double weight = weights.empty() ? 1 : weights[i];
    if (!(weight > 0)) return t.At("data_weights", "weights are above 0");
    o.train.push_back({TRY(call.run.ResolveShards(t, "data", sets[i])), weight});
    const bool stage = o.train.back().path != path;
    if (!stage || !validates || !held_out.empty()) continue;
    o.validation.push_back({path + "/validation", weight});
    if (!call.check_only && !std::filesystem::exists(o.validation.back().path)) {
      return t.At("data", sets[i] +
                              " has no validation split; give it `validation` above 0, or set "
                              "validate = false here");
    }
  }
  for (const std::string& v : held_out) {
    o.validation.push_back({TRY(call.run.Resolve(t, "validation", v)), 1});
  }
  if (!validates) o.validation.clear();
  return {};
}

Result<RunOptions> ReadRun(const StageCall& call) {
  ConfigTable& t = call.table;
  RunOptions o;
  o.folder = call.folder;
  o.title = call.run.name + "/" + TRY(t.Text("name"));
  o.recipe = call.run.text;
  o.commands = {call.run.Command() + " --stage " + TRY(t.Text("name"))};
  o.price_per_core_hour = call.run.price_per_core_hour;
  o.quiet = call.run.options.quiet;
  o.interrupted = call.run.options.interrupted;
  o.restart = call.run.options.restart;
  if (t.Has("from")) o.from = TRY(call.run.ResolveModel(t, "from", TRY(t.Text("from"))));
  if (o.from.empty() || t.Has("tokenizer")) {
    o.tokenizer = TRY(call.run.Resolve(t, "tokenizer", TRY(t.Text("tokenizer"))));
  }
  std::optional<ConfigTable> model = TRY(t.Table("model"));
  if (model && !o.from.empty()) return t.At("from", "and a [model] table exclude each other");
  if (!model && o.from.empty()) return t.At("", "a [model] table or `from` is needed");
  if (model) o.config = TRY(ModelJson(*model, o.tokenizer, call.check_only));
  if (!o.from.empty() && o.tokenizer.empty()) o.tokenizer = o.from;
  TRY(ReadData(call, o));
  o.options = TRY(TrainOptions::Read(t));
  if (!o.options.teacher.model.empty()) {
    o.options.teacher.model = TRY(call.run.ResolveModel(t, "teacher", o.options.teacher.model));
  }
  o.options.teacher.logits = TRY(call.run.Resolve(t, "teacher", o.options.teacher.logits));
  if (!t.Has("seed")) o.options.seed = call.run.seed;
  TRY(ReadEvaluation(call, o));
  TRY(t.Finish());
  return o;
}

}  // namespace

// Leaves model/, a folder that chat and transformers open, beside the run's records.
Status RunTrain(const StageCall& call) {
  const RunOptions options = TRY(ReadRun(call));
  if (call.check_only) return {};
  const RunSummary summary = TRY(RunTraining(call.run.exec, call.run.world, options));
  if (summary.interrupted) {
    return Error{Code::kCancelled, fmt::format("interrupted after step {}; run the same command "
                                               "again to go on",
                                               summary.steps)};
  }
  return {};
}

}  // namespace hadal::cli
