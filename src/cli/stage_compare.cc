// The recipe stage that tests a claim: two groups of training stages, one figure of each, the
// difference with its interval, and whether it holds.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/recipe.h"
#include "model/config.h"
#include "train/metrics.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::json;

enum class Metric : uint8_t { kLoss, kBitsPerByte, kLoad, kKvBytes };
enum class Judge : uint8_t { kInterval, kMean };
constexpr std::array<std::string_view, 2> kJudges = {"interval", "mean"};
constexpr std::array<std::string_view, 4> kMetrics = {"validation_loss", "validation_bits_per_byte",
                                                      "max_over_mean_load", "kv_bytes_per_token"};
// Two-sided 95 % points of Student's t by degrees of freedom, 1 to 10; beyond, 2.
constexpr std::array<double, 10> kStudent = {12.706, 4.303, 3.182, 2.776, 2.571,
                                             2.447,  2.365, 2.306, 2.262, 2.228};

struct CompareStage {
  std::string claim, source;
  std::vector<std::string> first, second;  // folders; second empty: the figure itself is judged
  Metric metric = Metric::kLoss;
  Judge judge = Judge::kInterval;
  bool relative = false;
  double at_most = 0;
};

Result<CompareStage> ReadCompare(const StageCall& call) {
  ConfigTable& t = call.table;
  CompareStage s;
  s.claim = TRY(t.Text("claim"));
  s.source = TRY(t.Text("source", ""));
  s.metric = static_cast<Metric>(TRY(t.Choice("metric", kMetrics)));
  s.judge = static_cast<Judge>(TRY(t.Choice("judge", kJudges, 0)));
  s.relative = TRY(t.Flag("relative", false));
  s.at_most = TRY(t.Number("at_most", -1e9, 1e9));
  for (auto* side : {&s.first, &s.second}) {
    const char* key = side == &s.first ? "first" : "second";
    for (const std::string& name : TRY(t.Texts(key))) {
      side->push_back(TRY(call.run.Resolve(t, key, name)));
    }
  }
  if (s.first.empty()) return t.At("first", "missing; a list of training stages");
  if (!s.second.empty() && s.second.size() != s.first.size()) {
    return t.At("second", fmt::format("{} stages against {}: runs are compared in pairs",
                                      s.second.size(), s.first.size()));
  }
  TRY(t.Finish());
  return s;
}

Result<double> Figure(const std::string& folder, Metric metric) {
  if (metric == Metric::kKvBytes) {
    const std::string text = TRY(ReadFile(folder + "/model/config.json", 1 << 20));
    const ModelConfig config = TRY(ModelConfig::FromJson(text));
    return 2.0 * static_cast<double>(Count(config).kv_elements_per_token);  // bf16
  }
  const MetricsLog log = TRY(ReadMetrics(folder + "/metrics.jsonl"));
  const Error none = {Code::kNotFound, folder + ": has no such figure; did the stage validate?"};
  if (log.steps.empty()) return none;
  if (metric == Metric::kLoad) {
    // All tokens of the last tenth together, where the bias has settled: the global measure of
    // arXiv:2408.15664 (MaxVio_global). A step alone adds the chance of its few documents.
    std::vector<std::vector<int64_t>> total = log.steps.back().expert_tokens;
    const size_t count = std::max<size_t>(1, log.steps.size() / 10);
    for (size_t i = log.steps.size() - count; i + 1 < log.steps.size(); ++i) {
      const auto& tokens = log.steps[i].expert_tokens;
      if (tokens.size() != total.size()) return none;
      for (size_t l = 0; l < total.size(); ++l) {
        for (size_t e = 0; e < std::min(total[l].size(), tokens[l].size()); ++e) {
          total[l][e] += tokens[l][e];
        }
      }
    }
    return total.empty() ? Result<double>(none) : MaxOverMean(total);
  }
  for (auto step = log.steps.rbegin(); step != log.steps.rend(); ++step) {
    const auto& value =
        metric == Metric::kLoss ? step->validation_loss : step->validation_bits_per_byte;
    if (value) return *value;
  }
  return none;
}

struct Interval {
  double mean = 0, low = 0, high = 0;
};
Interval Estimate(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Interval i;
  for (const double v : values) i.mean += v / n;
  double square = 0;
  for (const double v : values) square += (v - i.mean) * (v - i.mean);
  const size_t freedom = values.size() - 1;
  const double t = freedom == 0 ? 0 : freedom <= kStudent.size() ? kStudent[freedom - 1] : 2;
  const double half = freedom == 0 ? 0 : t * std::sqrt(square / static_cast<double>(freedom) / n);
  i.low = i.mean - half;
  i.high = i.mean + half;
  return i;
}

// The run's claims, this one in place of an earlier of its name.
Status Record(const StageCall& call, const Json& entry) {
  const std::string path = call.run.folder + "/claims.json";
  Json all = Json::array();
  if (const Result<std::string> text = ReadFile(path, 1 << 24); text.ok()) {
    const Json parsed = Json::parse(*text, nullptr, false);
    if (parsed.is_array()) all = parsed;
  }
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const Json& j) {
                             return j.is_object() && j.value("claim", "") == entry["claim"];
                           }),
            all.end());
  all.push_back(entry);
  TRY(WriteFileAtomic(call.folder + "/claim.json", entry.dump(2) + "\n"));
  return WriteFileAtomic(path, all.dump(2) + "\n");
}

}  // namespace

// Leaves claim.json, and the claim in the run's claims.json.
Status RunCompare(const StageCall& call) {
  const CompareStage s = TRY(ReadCompare(call));
  if (call.check_only) return {};
  std::vector<double> first, second, difference;
  for (size_t i = 0; i < s.first.size(); ++i) {
    first.push_back(TRY(Figure(s.first[i], s.metric)));
    if (s.second.empty()) {
      difference.push_back(first.back());
      continue;
    }
    second.push_back(TRY(Figure(s.second[i], s.metric)));
    const double d = first.back() - second.back();
    difference.push_back(s.relative ? d / second.back() : d);
  }
  const Interval i = Estimate(difference);
  const bool whole = s.judge == Judge::kInterval;
  const bool holds = (whole ? i.high : i.mean) <= s.at_most;
  const std::string_view metric = kMetrics[static_cast<size_t>(s.metric)];
  const std::string what = fmt::format("{}{}{}", metric, s.relative ? ", relative" : "",
                                       s.second.empty() ? "" : ", first minus second");
  const Json entry = {{"claim", s.claim},
                      {"source", s.source},
                      {"must", fmt::format("{} at most {:g}, {}", what, s.at_most,
                                           whole ? "interval included" : "on the mean")},
                      {"measured", fmt::format("{:.5g} (95 % interval {:.5g} to {:.5g}, {} runs)",
                                               i.mean, i.low, i.high, first.size())},
                      {"holds", holds},
                      {"recipe", call.run.options.file},
                      {"first", first},
                      {"second", second}};
  TRY(Record(call, entry));
  if (!call.run.options.quiet) {
    fmt::print("{}: {} {}: {}\n", s.claim, what, entry["measured"].get<std::string>(),
               holds ? "holds" : "does not hold");
  }
  return {};
}

}  // namespace hadal::cli
