// The recipe stage that runs a teacher once over a training set and keeps its likeliest tokens.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "cli/data.h"
#include "cli/recipe.h"
#include "train/teacher.h"

namespace hadal::cli {
namespace {

Result<StoreLogitsOptions> ReadLogits(const StageCall& call) {
  ConfigTable& t = call.table;
  StoreLogitsOptions o;
  o.folder = call.folder;
  o.model = TRY(call.run.ResolveModel(t, "model", TRY(t.Text("model"))));
  for (const std::string& set : TRY(t.Texts("data"))) {
    o.sets.push_back(TRY(call.run.ResolveShards(t, "data", set)));
  }
  if (o.sets.empty()) return t.At("data", "missing; a list of dataset stages or shard folders");
  o.top_k = TRY(t.Integer("top_k", 1, 4096, o.top_k));
  o.sequence_length = TRY(t.Integer("sequence_length", 2, 1 << 20, o.sequence_length));
  o.micro_tokens =
      TRY(t.Integer("micro_tokens", 2, 1 << 24, std::max(o.micro_tokens, o.sequence_length)));
  o.temperature = TRY(t.Number("temperature", 0.01, 100, o.temperature));
  if (o.micro_tokens < o.sequence_length) {
    return t.At("micro_tokens", fmt::format("{} is less than one sequence of {} tokens",
                                            o.micro_tokens, o.sequence_length));
  }
  TRY(t.Finish());
  return o;
}

// Ids of another tokenizer would be nonsense to the teacher. One in a GGUF may be padded, so only a
// folder's is held against the data's.
Status CheckTokenizer(const StoreLogitsOptions& o) {
  std::error_code ec;
  if (!std::filesystem::exists(o.model + "/tokenizer.json", ec)) return {};
  const std::string hash = TokenizerHash(TRY(OpenTokenizer(o.model)).tokenizer);
  for (const std::string& set : o.sets) {
    const std::string its = TRY(ShardSet::Open(set)).tokenizer_hash();
    if (its == hash) continue;
    return Error{Code::kInvalid,
                 fmt::format("{}: was made with another tokenizer ({}) than the teacher's, {} ({})",
                             set, its.substr(0, 12), o.model, hash.substr(0, 12))};
  }
  return {};
}

}  // namespace

// Leaves a .logits file for each token shard (data/logits.h) and logits.json, what they hold.
Status RunLogits(const StageCall& call) {
  StoreLogitsOptions o = TRY(ReadLogits(call));
  if (call.check_only) return {};
  TRY(CheckTokenizer(o));
  const bool root = call.run.world.rank() == 0;
  Progress bar("logits", Progress::Unit::kCount);
  o.progress = [&](int64_t done, int64_t total) {
    if (root && !call.run.options.quiet) bar.Update(done, total);
    return !call.run.options.interrupted || !call.run.options.interrupted();
  };
  const StoredLogits stored = TRY(StoreLogits(call.run.exec, call.run.world, o));
  if (!root) return {};
  return WriteFileAtomic(call.folder + "/logits.json",
                         nlohmann::json{{"teacher", o.model},
                                        {"teacher_sha256", stored.teacher_hash},
                                        {"top_k", o.top_k},
                                        {"sequence_length", o.sequence_length},
                                        {"temperature", o.temperature},
                                        {"shards", stored.shards},
                                        {"kept", stored.kept},
                                        {"rows", stored.rows},
                                        {"bytes", stored.bytes}}
                                 .dump(2) +
                             "\n");
}

}  // namespace hadal::cli
