#include "train/report_training.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "train/figures.h"
#include "train/report_chart.h"
#include "train/report_page.h"

namespace hadal::internal {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kSpans = 4, kTimeBins = 120, kMostColumns = 128, kMostLayers = 128,
                 kMostNotes = 50;

template <typename Value>
Series Of(const MetricsLog& log, const char* name, const Value& value) {
  Series series;
  series.name = name;
  series.x.reserve(log.steps.size());
  series.y.reserve(log.steps.size());
  for (const StepRecord& r : log.steps) {
    series.x.push_back(static_cast<double>(r.step));
    series.y.push_back(value(r));
  }
  return series;
}

// The steps that have one, as marks.
template <typename Value>
Series Given(const MetricsLog& log, const char* name, const Value& value) {
  Series series;
  series.name = name;
  series.points = true;
  for (const StepRecord& r : log.steps) {
    const std::optional<double> y = value(r);
    if (!y) continue;
    series.x.push_back(static_cast<double>(r.step));
    series.y.push_back(*y);
  }
  series.points = series.x.size() <= 60;
  return series;
}

bool AnyNonZero(const Series& series) {
  return std::any_of(series.y.begin(), series.y.end(),
                     [](double y) { return std::isfinite(y) && y != 0; });
}

std::string Card(ChartSpec spec, const std::string& title, bool wide = false) {
  spec.title = title;
  std::string out = "<div class=\"card\"><h3>" + EscapeHtml(title) + "</h3>";
  if (spec.series.size() > 1) {
    out += "<div class=\"legend\">";
    for (size_t i = 0; i < spec.series.size(); ++i) {
      out +=
          fmt::format("<span><i class=\"c{}\"></i>{}</span>", i, EscapeHtml(spec.series[i].name));
    }
    out += "</div>";
  }
  if (!wide) return out + LineChart(spec) + "</div>\n";
  out += "<div class=\"narrow\">" + LineChart(spec) + "</div>";
  spec.width = 980;
  spec.height = 300;
  return out + "<div class=\"wide\">" + LineChart(spec) + "</div></div>\n";
}

using Counts = std::vector<std::vector<int64_t>>;

bool SameShape(const Counts& a, const Counts& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) return false;
  }
  return true;
}

// The records with experts, those of another shape than the last one's left out.
std::vector<const StepRecord*> WithExperts(const MetricsLog& log) {
  std::vector<const StepRecord*> out;
  for (auto it = log.steps.rbegin(); it != log.steps.rend(); ++it) {
    if (it->expert_tokens.empty()) continue;
    if (out.empty() || SameShape(it->expert_tokens, out.front()->expert_tokens)) {
      out.push_back(&*it);
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

using Loads = std::vector<std::vector<double>>;

// [layer][expert]: tokens over the mean of the layer, summed over records [from, to).
Loads LoadsOf(const std::vector<const StepRecord*>& records, size_t from, size_t to) {
  const Counts& shape = records.front()->expert_tokens;
  Loads loads;
  for (size_t layer = 0; layer < std::min(shape.size(), kMostLayers); ++layer) {
    std::vector<double> sums(shape[layer].size(), 0);
    double total = 0;
    for (size_t i = from; i < to; ++i) {
      for (size_t e = 0; e < sums.size(); ++e) {
        const auto count = static_cast<double>(records[i]->expert_tokens[layer][e]);
        sums[e] += count;
        total += count;
      }
    }
    for (double& sum : sums) {
      sum = total > 0 ? sum * static_cast<double>(sums.size()) / total : kNone;
    }
    loads.push_back(std::move(sums));
  }
  return loads;
}

double Largest(const std::vector<double>& values) {
  double most = kNone;
  for (const double value : values) {
    if (std::isnan(most) || value > most) most = value;
  }
  return most;
}

// Neighbouring experts share a column, which shows the most loaded one, where there are too many.
Loads Narrowed(Loads loads) {
  for (auto& row : loads) {
    if (row.size() <= kMostColumns) continue;
    std::vector<double> out(kMostColumns);
    for (size_t i = 0; i < kMostColumns; ++i) {
      const size_t from = i * row.size() / kMostColumns, to = (i + 1) * row.size() / kMostColumns;
      out[i] = Largest({row.begin() + static_cast<std::ptrdiff_t>(from),
                        row.begin() + static_cast<std::ptrdiff_t>(to)});
    }
    row = std::move(out);
  }
  return loads;
}

std::string HeatCard(const std::string& title, const Loads& loads, const std::string& left,
                     const std::string& right) {
  const int height = static_cast<int>(std::clamp<size_t>(loads.size() * 18, 54, 420));
  std::string out = "<div class=\"card\"><h3>" + EscapeHtml(title) + "</h3><div class=\"heatbox\">";
  out += fmt::format("<div class=\"rows\"><span>0</span><span>{}</span></div>", loads.size() - 1);
  out += HeatMap(title, loads, height);
  out += fmt::format("<div class=\"cols\"><span>{}</span><span>{}</span></div></div></div>\n",
                     EscapeHtml(left), EscapeHtml(right));
  return out;
}

std::string StepText(int64_t step) { return "step " + Grouped(step); }

// [layer][time bin]: the most loaded expert over the mean.
std::string OverTime(const std::vector<const StepRecord*>& records) {
  const size_t bins = std::min(records.size(), kTimeBins);
  Loads over_time;
  for (size_t bin = 0; bin < bins; ++bin) {
    const Loads loads =
        LoadsOf(records, bin * records.size() / bins, (bin + 1) * records.size() / bins);
    over_time.resize(loads.size());
    for (size_t layer = 0; layer < loads.size(); ++layer) {
      over_time[layer].push_back(Largest(loads[layer]));
    }
  }
  return HeatCard("Most loaded expert of each MoE layer, over time", over_time,
                  StepText(records.front()->step), StepText(records.back()->step));
}

// pass@1 of the evaluations: the mean, and what it is of where that is few enough to draw.
ChartSpec EvaluationChart(const MetricsLog& log) {
  Series mean;
  mean.name = "mean";
  std::map<std::string, Series> families;
  for (const StepRecord& r : log.steps) {
    if (!r.evaluation) continue;
    const auto step = static_cast<double>(r.step);
    mean.x.push_back(step);
    mean.y.push_back(r.evaluation->pass_at_1);
    std::map<std::string, std::pair<double, int>> sums;  // "chain:1", "chain:2": chain
    for (const auto& [task, pass] : r.evaluation->tasks) {
      if (!std::isfinite(pass)) continue;
      auto& [sum, count] = sums[task.substr(0, task.find(':'))];
      sum += pass;
      ++count;
    }
    for (const auto& [family, sum] : sums) {
      Series& series = families[family];
      series.x.push_back(step);
      series.y.push_back(sum.first / sum.second);
    }
  }
  ChartSpec spec;
  spec.figure = Figure::kShare;
  spec.from_zero = true;
  mean.points = mean.x.size() <= 60;
  spec.series.push_back(std::move(mean));
  if (families.size() > 1 && families.size() < kSeriesColors) {
    for (auto& [name, series] : families) {
      series.name = name;
      spec.series.push_back(std::move(series));
    }
  }
  return spec;
}

}  // namespace

std::string TrainingCharts(const MetricsLog& log, bool wide) {
  if (log.steps.empty()) return {};
  const auto loss = [](const StepRecord& r) { return r.loss; };
  const auto validation = [](const StepRecord& r) { return r.validation_loss; };
  ChartSpec losses;
  losses.series = {Of(log, "training", loss)};
  if (Series s = Given(log, "validation", validation); !s.x.empty()) {
    losses.series.push_back(std::move(s));
  }
  std::string out = Card(losses, "Loss (nats a token)", wide);
  const auto add = [&](const char* title, Series series, Figure figure, bool from_zero) {
    if (series.x.empty() || !AnyNonZero(series)) return;
    ChartSpec spec;
    spec.series = {std::move(series)};
    spec.figure = figure;
    spec.from_zero = from_zero;
    out += Card(spec, title);
  };
  if (wide) out += "<div class=\"grid2\">";
  if (ChartSpec pass = EvaluationChart(log); !pass.series[0].x.empty()) {
    out += Card(std::move(pass), "pass@1 while training");
  }
  add("Validation, bits a byte",
      Given(log, "", [](const StepRecord& r) { return r.validation_bits_per_byte; }),
      Figure::kNumber, false);
  add("Tokens a second", Of(log, "", [](const StepRecord& r) { return r.tokens_per_second; }),
      Figure::kCount, true);
  add("Share of the machine's peak", Of(log, "", [](const StepRecord& r) { return r.peak_share; }),
      Figure::kShare, true);
  add("Learning rate", Of(log, "", [](const StepRecord& r) { return r.lr; }), Figure::kNumber,
      true);
  add("Gradient norm before clipping", Of(log, "", [](const StepRecord& r) { return r.grad_norm; }),
      Figure::kNumber, true);
  add("Multi-token prediction loss", Of(log, "", [](const StepRecord& r) { return r.mtp_loss; }),
      Figure::kNumber, false);
  add("Distillation loss", Of(log, "", [](const StepRecord& r) { return r.distill_loss; }),
      Figure::kNumber, false);
  add("Balance loss", Of(log, "", [](const StepRecord& r) { return r.balance_loss; }),
      Figure::kNumber, true);
  add("Most loaded expert over the mean",
      Of(log, "",
         [](const StepRecord& r) {
           return r.max_over_mean_load > 0 ? r.max_over_mean_load : kNone;
         }),
      Figure::kNumber, false);
  if (wide) out += "</div>\n";
  return out;
}

std::string LossComparison(const std::vector<NamedLog>& logs) {
  ChartSpec training, validation;
  for (const NamedLog& named : logs) {
    if (training.series.size() == kSeriesColors) break;
    Series loss, held_out;
    loss.name = held_out.name = named.name;
    for (const StepRecord& r : named.log->steps) {
      const auto tokens = static_cast<double>(r.total_tokens);
      if (!loss.x.empty() && tokens <= loss.x.back()) continue;
      loss.x.push_back(tokens);
      loss.y.push_back(r.loss);
      if (!r.validation_loss) continue;
      held_out.x.push_back(tokens);
      held_out.y.push_back(*r.validation_loss);
    }
    held_out.points = held_out.x.size() <= 60;
    training.series.push_back(std::move(loss));
    validation.series.push_back(std::move(held_out));
  }
  if (training.series.size() < 2) return {};
  training.x_name = validation.x_name = "tokens";
  std::string out = "<div class=\"grid2\">" + Card(training, "Training loss over tokens");
  const bool any = std::any_of(validation.series.begin(), validation.series.end(),
                               [](const Series& s) { return !s.x.empty(); });
  if (any) out += Card(validation, "Validation loss over tokens");
  return out + "</div>\n";
}

std::string ExpertCharts(const MetricsLog& log) {
  const auto records = WithExperts(log);
  if (records.empty()) return {};
  const Counts& shape = records.front()->expert_tokens;
  size_t experts = 0;
  for (const auto& layer : shape) experts = std::max(experts, layer.size());
  if (experts == 0) return {};
  std::string out = fmt::format(
      "<p class=\"soft small\">Tokens of each expert as a multiple of its layer's mean: a row is "
      "one "
      "of {} MoE layers, a column one of {} experts{}.</p>\n<p>{}</p>\n",
      shape.size(), experts,
      experts > kMostColumns
          ? fmt::format(" ({} columns, each the most loaded of its experts)", kMostColumns)
          : "",
      HeatLegend());
  if (shape.size() > kMostLayers) {
    out += fmt::format("<p class=\"soft small\">The first {} layers are shown.</p>", kMostLayers);
  }
  out += "<div class=\"grid2\">";
  const size_t spans = std::min(records.size(), kSpans);
  for (size_t i = 0; i < spans; ++i) {
    const size_t from = i * records.size() / spans, to = (i + 1) * records.size() / spans;
    const std::string title = from + 1 == to
                                  ? "Step " + Grouped(records[from]->step)
                                  : fmt::format("Steps {} to {}", Grouped(records[from]->step),
                                                Grouped(records[to - 1]->step));
    out += HeatCard(title, Narrowed(LoadsOf(records, from, to)), "expert 0",
                    std::to_string(experts - 1));
  }
  out += "</div>\n<div class=\"grid2\">" + OverTime(records) + "</div>\n";
  return out;
}

std::string TrainingNotes(const MetricsLog& log) {
  std::vector<std::vector<std::string>> rows;
  size_t more = 0;
  for (const StepRecord& r : log.steps) {
    if (!r.skipped && r.note.empty()) continue;
    if (rows.size() >= kMostNotes) {
      ++more;
      continue;
    }
    rows.push_back({Grouped(r.step), HumanNumber(r.loss), HumanNumber(r.grad_norm),
                    (r.skipped ? "<span class=\"no\">skipped</span> " : "") + Isolated(r.note)});
  }
  if (rows.empty()) return {};
  std::string out = Table({"step", "loss", "gradient", "note"}, rows, {true, true, true, false});
  if (more > 0) out += fmt::format("<p class=\"soft small\">and {} more</p>\n", more);
  return out;
}

}  // namespace hadal::internal
