#include "train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "train/figures.h"
#include "train/report_chart.h"
#include "train/report_data.h"
#include "train/report_page.h"
#include "train/report_training.h"

namespace hadal {
namespace {

using internal::EscapeHtml, internal::Isolated, internal::RunData, internal::Section;
using internal::Table;
namespace fs = std::filesystem;

constexpr size_t kShownSamples = 12, kStageCharts = 24;

std::string Tile(const std::string& value, const std::string& label) {
  return "<div class=\"tile\"><b>" + EscapeHtml(value) + "</b><span>" + EscapeHtml(label) +
         "</span></div>";
}

// The ledger of the run: its own, or the sum of its stages'.
std::optional<Ledger> WholeLedger(const RunData& run, const std::vector<RunData>& stages) {
  std::optional<Ledger> sum;
  for (const RunData& stage : stages) {
    if (stage.ledger) sum = sum ? MergeSessions(*sum, *stage.ledger) : *stage.ledger;
  }
  return sum ? sum : run.ledger;
}

std::string Tiles(const RunData& run, const std::vector<RunData>& stages,
                  const std::optional<Ledger>& ledger) {
  std::string out;
  if (run.metrics) {
    const StepRecord& last = run.metrics->steps.back();
    out += Tile(Grouped(last.step), "steps");
    out += Tile(HumanNumber(last.loss), "training loss");
    std::optional<double> best, best_bits;
    double speed = 0, share = 0, seconds = 0;
    for (const StepRecord& r : run.metrics->steps) {
      if (r.validation_loss && !(best && *best <= *r.validation_loss)) best = r.validation_loss;
      const auto& bits = r.validation_bits_per_byte;
      if (bits && !(best_bits && *best_bits <= *bits)) best_bits = bits;
      if (!(r.seconds > 0) || !std::isfinite(r.seconds)) continue;
      seconds += r.seconds;
      speed += static_cast<double>(r.tokens);
      if (std::isfinite(r.peak_share)) share += r.peak_share * r.seconds;
    }
    if (best) out += Tile(HumanNumber(*best), "best validation loss");
    if (best_bits) out += Tile(HumanNumber(*best_bits), "best bits a byte");
    if (seconds > 0) out += Tile(HumanCount(speed / seconds) + "/s", "tokens, mean");
    if (share > 0) out += Tile(HumanShare(share / seconds), "of peak speed");
  }
  if (ledger) {
    out += Tile(HumanCount(static_cast<double>(ledger->tokens)), "tokens trained");
    double seconds = 0;
    for (const RunData& stage : stages) seconds += stage.seconds.value_or(0);
    out += Tile(HumanTime(seconds > 0 ? seconds : ledger->wall_seconds), "wall time");
    out += Tile(HumanNumber(ledger->core_hours(), 3), "core-hours");
    if (const auto money = ledger->money())
      out += Tile(HumanMoney(*money, ledger->currency), "cost");
    if (const auto joules = ledger->joules()) {
      out += Tile(HumanNumber(*joules / 3.6e6, 3) + " kWh", "energy of the machine");
    }
  } else if (run.metrics) {
    out += Tile(HumanCount(static_cast<double>(run.metrics->steps.back().total_tokens)),
                "tokens trained");
  }
  return out.empty() ? out : "<div class=\"tiles\">" + out + "</div>\n";
}

// run_dir/report.html as a link that can only lead below this page's folder.
std::string StageLink(const internal::Stage& stage, const std::string& name) {
  std::error_code error;
  if (stage.folder.empty() || !fs::is_regular_file(stage.folder + "/report.html", error) ||
      stage.run_dir.find("..") != std::string::npos || stage.run_dir.front() == '/') {
    return Isolated(name);
  }
  std::string path = "./";
  for (const char c : stage.run_dir) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == '/';
    path += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return "<a href=\"" + path + "/report.html\">" + Isolated(name) + "</a>";
}

std::string StagesSection(const RunData& run, const std::vector<RunData>& stages) {
  std::vector<std::vector<std::string>> rows;
  std::string charts;
  std::vector<internal::NamedLog> logs;
  size_t drawn = 0;
  for (size_t i = 0; i < run.recipe.stages.size(); ++i) {
    const internal::Stage& stage = run.recipe.stages[i];
    const RunData& data = stages[i];
    std::vector<std::string> row = {StageLink(stage, stage.name), Isolated(stage.verb),
                                    Isolated(stage.status)};
    const auto add = [&](bool known, const std::string& text) {
      row.push_back(known ? EscapeHtml(text) : "");
    };
    const StepRecord* last = data.metrics ? &data.metrics->steps.back() : nullptr;
    add(last != nullptr, last != nullptr ? Grouped(last->step) : "");
    add(last != nullptr, last != nullptr ? HumanNumber(last->loss) : "");
    const Ledger ledger = data.ledger.value_or(Ledger());
    add(data.ledger.has_value(), HumanCount(static_cast<double>(ledger.tokens)));
    add(data.seconds || data.ledger, HumanTime(data.seconds.value_or(ledger.wall_seconds)));
    add(data.ledger.has_value(), HumanNumber(ledger.core_hours(), 3));
    rows.push_back(std::move(row));
    if (data.metrics) logs.push_back({stage.name, &*data.metrics});
    if (!data.metrics || drawn++ >= kStageCharts) continue;
    charts += "<details><summary>" + Isolated(stage.name) + "</summary><div class=\"grid2\">" +
              internal::TrainingCharts(*data.metrics, false) + "</div>" +
              internal::ExpertCharts(*data.metrics) + "</details>\n";
  }
  if (rows.empty()) return {};
  return Table({"stage", "verb", "status", "steps", "loss", "tokens", "time", "core-hours"}, rows,
               {false, false, false, true, true, true, true, true}) +
         internal::LossComparison(logs) + charts;
}

std::string Percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.0f} %", 100 * std::clamp(share, 0.0, 1.0)) : "–";
}

std::string RangeText(double low, double high) {
  if (!std::isfinite(low) || !std::isfinite(high)) return "";
  return Percent(low) + " to " + Percent(high);
}

// Families down, levels across, where rows have levels.
std::string LevelTable(const std::vector<const internal::EvaluationRow*>& rows) {
  std::set<int64_t> levels;
  std::map<std::string, std::map<int64_t, const internal::EvaluationRow*>> cells;
  std::vector<std::string> order;
  for (const auto* row : rows) {
    if (cells.find(row->family) == cells.end()) order.push_back(row->family);
    cells[row->family][row->level] = row;
    if (levels.size() < 16) levels.insert(row->level);
  }
  std::string out = "<div class=\"wrap\"><table><thead><tr><th>family</th>";
  for (const int64_t level : levels) out += fmt::format("<th class=\"n\">level {}</th>", level);
  out += "</tr></thead><tbody>\n";
  for (const std::string& family : order) {
    out += "<tr><td>" + Isolated(family) + "</td>";
    for (const int64_t level : levels) {
      const auto it = cells[family].find(level);
      if (it == cells[family].end()) {
        out += "<td></td>";
        continue;
      }
      const auto& row = *it->second;
      const double share = std::isfinite(row.pass_at_1) ? std::clamp(row.pass_at_1, 0.0, 1.0) : 0;
      out += fmt::format(
          "<td class=\"n\" style=\"background:rgba(var(--tint),{:.2f})\">{}<small>{}</small></td>",
          0.35 * share, Percent(row.pass_at_1), EscapeHtml(RangeText(row.low, row.high)));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string EvaluationSection(const std::vector<internal::EvaluationRow>& evaluation) {
  std::vector<std::vector<std::string>> plain;
  std::vector<const internal::EvaluationRow*> levelled;
  for (const auto& row : evaluation) {
    if (row.level > 0) {
      levelled.push_back(&row);
      continue;
    }
    const std::string name = Isolated(row.task.empty() ? row.family : row.task);
    if (std::isfinite(row.bits_per_byte)) {
      plain.push_back({name, HumanNumber(row.bits_per_byte), "bits a byte", "", ""});
      continue;
    }
    plain.push_back({name, Percent(row.pass_at_1),
                     internal::IntervalBar(row.pass_at_1, row.low, row.high),
                     EscapeHtml(RangeText(row.low, row.high)),
                     fmt::format("{} / {}", Grouped(row.correct), Grouped(row.samples))});
  }
  std::string out;
  if (!plain.empty()) {
    out += Table({"task", "pass@1", "", "95 % interval", "correct"}, plain,
                 {false, true, false, false, true});
  }
  if (!levelled.empty()) {
    if (!out.empty()) out += "<p></p>";
    out += LevelTable(levelled);
    out += "<p class=\"soft small\">pass@1, its confidence interval below.</p>\n";
  }
  return out;
}

// The thought apart from the answer. When the prompt opened it, the text has the end tag only.
std::string Completion(const std::string& text) {
  const std::string open = "<think>", close = "</think>";
  const size_t end = text.find(close), start = text.find(open);
  if (end == std::string::npos && start == std::string::npos) {
    return "<pre dir=\"auto\">" + EscapeHtml(text) + "</pre>";
  }
  const size_t from = start == std::string::npos || start > end ? 0 : start + open.size();
  const std::string before = from == 0 ? "" : text.substr(0, start);
  const std::string thought = text.substr(from, std::min(end, text.size()) - from);
  const std::string after = end == std::string::npos ? "" : text.substr(end + close.size());
  const auto pre = [](const std::string& part, const char* attributes) {
    if (part.find_first_not_of(" \n\t\r") == std::string::npos) return std::string();
    return fmt::format("<pre dir=\"auto\"{}>{}</pre>", attributes, EscapeHtml(part));
  };
  const auto trim = [](const std::string& part) {
    const size_t at = part.find_first_not_of("\n\r");
    return at == std::string::npos ? std::string() : part.substr(at);
  };
  return pre(before, "") + pre(trim(thought), " class=\"think\"") + pre(trim(after), "");
}

std::string SampleCard(const internal::Sample& sample, const internal::Sample* earlier) {
  std::string what = sample.task.empty() ? "step " + Grouped(sample.step) : Isolated(sample.task);
  std::string verdict;
  if (!sample.verdict.empty()) {
    const char* cls = sample.verdict == "right" ? "yes" : sample.verdict == "wrong" ? "no" : "soft";
    verdict = fmt::format("<span><span class=\"{}\">{}</span>", cls, Isolated(sample.verdict));
    if (sample.verdict != "right" && !sample.gold.empty()) {
      verdict += " · wanted " + Isolated(sample.gold);
      if (!sample.extracted.empty()) verdict += ", got " + Isolated(sample.extracted);
    }
    verdict += "</span>";
  }
  std::string out =
      "<div class=\"card talk\"><div class=\"prompt\"><div class=\"who\"><span>prompt";
  out += "</span><span>" + what + "</span></div><pre dir=\"auto\">" + EscapeHtml(sample.prompt);
  out += "</pre></div><div><div class=\"who\"><span>completion</span>" + verdict + "</div>";
  out += Completion(sample.completion) + "</div>";
  if (earlier != nullptr) {
    out += "<details><summary>at step " + Grouped(earlier->step) + "</summary>" +
           Completion(earlier->completion) + "</details>";
  }
  return out + "</div>\n";
}

// Of the last step, the tasks in turn.
std::string SamplesSection(const std::vector<internal::Sample>& samples) {
  if (samples.empty()) return {};
  const int64_t last = samples.back().step;
  std::map<std::string, size_t> seen;
  std::vector<std::pair<size_t, const internal::Sample*>> chosen;
  for (const auto& sample : samples) {
    if (sample.step == last) chosen.emplace_back(seen[sample.task]++, &sample);
  }
  if (seen.size() > 1) {
    std::stable_sort(chosen.begin(), chosen.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  chosen.resize(std::min(chosen.size(), kShownSamples));
  std::string out;
  for (const auto& choice : chosen) {
    const auto& sample = *choice.second;
    const auto earlier = std::find_if(samples.begin(), samples.end(), [&](const auto& s) {
      return s.step < last && s.prompt == sample.prompt;
    });
    out += SampleCard(sample, earlier == samples.end() ? nullptr : &*earlier);
  }
  return out;
}

// A section made of a run's own part and of those of its stages that have one.
template <typename Make>
std::string OfAllStages(const RunData& run, const std::vector<RunData>& stages, bool fold,
                        const Make& make) {
  std::string own = make(run), parts;
  int64_t count = 0;
  for (size_t i = 0; i < stages.size(); ++i) {
    const std::string part = make(stages[i]);
    if (part.empty()) continue;
    const std::string name = Isolated(run.recipe.stages[i].name);
    parts += fold ? "<details" + std::string(count == 0 ? " open" : "") + "><summary>" + name +
                        "</summary>" + part + "</details>\n"
                  : "<h3 class=\"part\">" + name + "</h3>\n" + part;
    ++count;
  }
  return own + parts;
}

std::string ClaimsSection(const std::vector<internal::Claim>& claims) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& c : claims) {
    const char* verdict = !c.holds   ? "<span class=\"soft\">not run</span>"
                          : *c.holds ? "<span class=\"yes\">holds</span>"
                                     : "<span class=\"no\">fails</span>";
    std::string claim = Isolated(c.claim);
    if (!c.source.empty()) claim += "<small>" + Isolated(c.source) + "</small>";
    rows.push_back({claim, Isolated(c.must), Isolated(c.measured), verdict,
                    c.recipe.empty() ? "" : "<code>" + Isolated(c.recipe) + "</code>"});
  }
  if (rows.empty()) return {};
  return Table({"claim", "must", "measured", "", "recipe"}, rows, {});
}

std::string CostSection(const Ledger& l) {
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const char* what, const std::string& value, const std::string& note) {
    rows.push_back({EscapeHtml(what), EscapeHtml(value), Isolated(note)});
  };
  row("tokens", Grouped(l.tokens), "");
  row("training FLOPs", fmt::format("{:.4g}", l.train_flops),
      "forward and backward, attention included, recompute not");
  row("core-hours", HumanNumber(l.core_hours()),
      fmt::format("user and system time; {} were available",
                  HumanNumber(l.available_core_hours())));
  row("wall time", HumanTime(l.wall_seconds),
      fmt::format("{} session{}, {} rank{}", l.sessions, l.sessions == 1 ? "" : "s", l.ranks,
                  l.ranks == 1 ? "" : "s"));
  row("peak memory", HumanBytes(static_cast<double>(l.peak_rss_bytes)), "");
  if (const auto joules = l.joules()) {
    row("energy", HumanNumber(*joules / 3.6e6) + " kWh", "whole machine: " + l.energy_source);
  } else {
    row("energy", "–", "the machine does not tell");
  }
  if (const auto money = l.money()) {
    row("money", HumanMoney(*money, l.currency),
        fmt::format("{} a core-hour; {} as rented", HumanMoney(*l.price_per_core_hour, l.currency),
                    HumanMoney(*l.rented_money(), l.currency)));
  } else {
    row("money", "–", "no price given");
  }
  for (const LedgerMachine& m : l.machines) {
    row("machine", fmt::format("{} cores", m.cores), m.cpu);
  }
  return Table({}, rows, {false, true, false});
}

std::string FactsTable(const RunData& run) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : run.facts) {
    rows.push_back({Isolated(key), "<code>" + Isolated(value) + "</code>"});
  }
  return rows.empty() ? "" : Table({"run.json", ""}, rows, {});
}

std::string ReproduceSection(const RunData& run, const std::vector<RunData>& stages) {
  std::string out, commands;
  for (const std::string& command : run.commands) commands += EscapeHtml(command) + "\n";
  if (commands.empty() && !run.recipe_text.empty()) commands = "hadal recipe recipe.toml\n";
  if (!commands.empty()) out += "<div class=\"code\"><pre>" + commands + "</pre></div>\n<p></p>\n";
  out += FactsTable(run);
  for (size_t i = 0; i < stages.size(); ++i) {
    const std::string facts = FactsTable(stages[i]);
    if (facts.empty()) continue;
    out += "<details><summary>" + Isolated(run.recipe.stages[i].name) + "</summary>" + facts +
           "</details>\n";
  }
  if (!run.recipe_text.empty()) {
    out += "<details><summary>recipe.toml</summary><div class=\"code\"><pre>" +
           EscapeHtml(run.recipe_text) + "</pre></div></details>\n";
  }
  return out;
}

std::string Contents(const std::string& body) {
  std::string out;
  const std::string mark = "<section id=\"";
  for (size_t at = 0; (at = body.find(mark, at)) != std::string::npos;) {
    at += mark.size();
    const std::string id = body.substr(at, body.find('"', at) - at);
    const size_t from = body.find("<h2>", at) + 4;
    out += "<a href=\"#" + id + "\">" + body.substr(from, body.find("</h2>", from) - from) + "</a>";
  }
  return out.empty() ? out : "<nav>" + out + "</nav>\n";
}

// One entry for each stage; empty where it has no folder or shares one that came before.
std::vector<RunData> ReadStageRuns(RunData& run) {
  std::vector<RunData> stages;
  std::set<std::string> seen;
  for (const internal::Stage& stage : run.recipe.stages) {
    RunData data;
    if (!stage.folder.empty() && seen.insert(stage.folder).second) {
      auto read = internal::ReadRun(stage.folder);
      if (read.ok()) data = *std::move(read);
      for (const std::string& remark : data.remarks) {
        run.remarks.push_back(stage.name + ": " + remark);
      }
    } else if (stage.folder.empty() && !stage.run_dir.empty()) {
      run.remarks.push_back(stage.name +
                            ": its folder is not inside this run's, so it is not read");
    }
    stages.push_back(std::move(data));
  }
  return stages;
}

}  // namespace

Result<std::string> RenderReport(const std::string& run_dir) {
  RunData run = TRY(internal::ReadRun(run_dir));
  const std::vector<RunData> stages = ReadStageRuns(run);
  const auto ledger = WholeLedger(run, stages);
  std::string body = Section("stages", "Stages", StagesSection(run, stages));
  if (run.metrics) {
    body += Section("training", "Training", internal::TrainingCharts(*run.metrics, true));
    body += Section("experts", "Expert load", internal::ExpertCharts(*run.metrics));
  }
  body += Section("evaluation", "Evaluation", OfAllStages(run, stages, false, [](const RunData& r) {
                    return EvaluationSection(r.evaluation);
                  }));
  body += Section("claims", "Claims", ClaimsSection(run.claims));
  body += Section("samples", "Samples", OfAllStages(run, stages, true, [](const RunData& r) {
                    return SamplesSection(r.samples);
                  }));
  if (ledger) body += Section("cost", "Cost", CostSection(*ledger));
  body += Section("reproduce", "How to reproduce", ReproduceSection(run, stages));
  if (run.metrics) {
    body += Section("notes", "Notes of the training", internal::TrainingNotes(*run.metrics));
  }
  std::string remarks;
  for (const std::string& remark : run.remarks) remarks += "<li>" + Isolated(remark) + "</li>\n";
  if (!remarks.empty()) body += Section("damage", "Not shown", "<ul>\n" + remarks + "</ul>\n");
  const std::string head = "<header>\n<h1>" + Isolated(run.name) + "</h1>\n" + Contents(body) +
                           Tiles(run, stages, ledger) + "</header>\n";
  return internal::Page(run.name + " · hadal",
                        head + body + "<footer>Made by hadal report.</footer>\n");
}

Result<std::string> WriteReport(const std::string& run_dir, const std::string& path) {
  const std::string to = path.empty() ? run_dir + "/report.html" : path;
  TRY(WriteFileAtomic(to, TRY(RenderReport(run_dir))));
  return to;
}

}  // namespace hadal
