// Results and samples as JSON, results as a table.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "eval/evaluate.h"
#include "eval/extract.h"
#include "eval/internal_samples.h"

namespace hadal::eval {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const TaskResult& r) {
  Json out = {{"task", r.task}, {"family", r.family}, {"level", r.level}};
  if (r.bits_per_byte >= 0) {
    out["bits_per_byte"] = r.bits_per_byte;
  } else {
    out.update(Json{
        {"n", r.n}, {"correct", r.correct}, {"pass@1", r.pass1}, {"low", r.low}, {"high", r.high}});
    for (const auto& [k, value] : r.pass_k) out["pass@" + std::to_string(k)] = value;
    if (r.majority_k > 0) {
      out["majority_k"] = r.majority_k;
      out["majority@k"] = r.majority;
    }
  }
  out.update(Json{{"samples", r.samples},
                  {"wrong", r.wrong},
                  {"errors", r.errors},
                  {"truncated", r.truncated},
                  {"prompt_hash", r.prompt_hash},
                  {"seed", r.seed},
                  {"max_tokens", r.max_tokens},
                  {"prompt_tokens", r.prompt_tokens},
                  {"tokens", r.tokens},
                  {"seconds", r.seconds}});
  if (!r.first_error.empty()) out["first_error"] = r.first_error;
  return out;
}

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string internal::SampleToJson(const std::string& task, const Item& item,
                                   const Sample& sample) {
  const Completion& c = sample.completion;
  Json out = {{"task", task},
              {"item", item.id},
              {"sample", sample.number},
              {"seed", sample.seed},
              {"verdict", VerdictName(sample.grade.verdict)},
              {"extracted", sample.grade.extracted},
              {"gold", item.gold},
              {"trace", sample.grade.trace},
              {"prompt", item.prompt},
              {"prompt_hash", c.prompt_hash.empty() ? Sha256Hex(item.prompt) : c.prompt_hash},
              {"completion", c.text},
              {"finish", c.finish},
              {"prompt_tokens", c.prompt_tokens},
              {"tokens", c.tokens}};
  return Dump(out, -1);
}

std::string ResultsToJson(const std::string& model, const std::vector<TaskResult>& results,
                          const EvalOptions& options) {
  Json tasks = Json::array();
  for (const TaskResult& result : results) tasks.push_back(ToJson(result));
  const Json out = {{"model", model},           {"samples", options.samples},
                    {"limit", options.limit},   {"seed", options.seed},
                    {"strict", options.strict}, {"tasks", std::move(tasks)}};
  return Dump(out, 2) + '\n';
}

std::string ResultsToText(const std::vector<TaskResult>& results, const EvalOptions& options) {
  std::string out = fmt::format("{:<24} {:>6} {:>8} {:>17}", "task", "items", "pass@1", "95 %");
  for (const int64_t k : options.pass_k) out += fmt::format(" {:>8}", fmt::format("pass@{}", k));
  if (options.samples > 1) out += fmt::format(" {:>8}", fmt::format("maj@{}", options.samples));
  out += fmt::format(" {:>6} {:>6} {:>9} {:>8}  {}\n", "cut", "errors", "tokens", "seconds",
                     "prompts");
  for (const TaskResult& r : results) {
    out += fmt::format("{:<24} {:>6} ", r.task, r.n);
    if (r.bits_per_byte >= 0) {
      out += fmt::format("{:.4f} bits per byte", r.bits_per_byte);
    } else {
      out +=
          fmt::format("{:>7.1f}% {:>7.1f}% - {:>5.1f}%", 100 * r.pass1, 100 * r.low, 100 * r.high);
      for (const int64_t k : options.pass_k) {
        std::string cell = "-";
        for (const auto& [have, value] : r.pass_k) {
          if (have == k) cell = fmt::format("{:.1f}%", 100 * value);
        }
        out += fmt::format(" {:>8}", cell);
      }
      if (options.samples > 1) {
        out += fmt::format(" {:>8}",
                           r.majority_k > 0 ? fmt::format("{:.1f}%", 100 * r.majority) : "-");
      }
      out += fmt::format(" {:>6} {:>6} {:>9}", r.truncated, r.errors, r.tokens);
    }
    out += fmt::format(" {:>8.1f}  {:.12}\n", r.seconds, r.prompt_hash);
    if (!r.first_error.empty()) {
      out += fmt::format("  not graded: {} of {}: {}\n", r.errors, r.samples, r.first_error);
    }
  }
  int64_t most = 0;
  for (const TaskResult& r : results) most = std::max(most, r.max_tokens);
  out += fmt::format("seed {}, {} sample{} an item, at most {} tokens a sample{}\n", options.seed,
                     options.samples, options.samples == 1 ? "" : "s", most,
                     options.strict ? ", strict format" : "");
  return out;
}

}  // namespace hadal::eval
