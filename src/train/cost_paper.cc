// The published costs, worked out again from what the reports say they are made of.
#include <fmt/format.h>

#include <cmath>

#include "base/terminal.h"
#include "train/cost.h"
#include "train/figures.h"

namespace hadal {
namespace {

constexpr double kPrice = 2;          // dollars for an H800 for an hour, assumed by both reports
constexpr double kBf16Peak = 989e12;  // of an H800, dense

// V3 §4.2: the numbers that Count() and CountTrainFlops() need.
ModelConfig V3Config() {
  ModelConfig c;
  c.arch = Arch::kDeepseekV3;
  c.layers = 61;
  c.width = 7168;
  c.vocab = 129280;
  c.heads = c.kv_heads = 128;
  c.ffn = 18432;
  c.q_latent = 1536;
  c.latent = 512;
  c.nope_dim = c.v_dim = 128;
  c.rope_dim = 64;
  c.gate.experts = 256;
  c.gate.top_k = 8;
  c.expert_ffn = 2048;
  c.shared_experts = 1;
  c.dense_layers = 3;
  c.mtp_layers = 1;
  return c;
}

PaperStage Stage(const char* name, double printed_hours, double unrounded, std::string arithmetic) {
  return {name, std::move(arithmetic), printed_hours, printed_hours * kPrice, unrounded};
}

void Sum(PaperCost& paper) {
  paper.price_per_gpu_hour = kPrice;
  for (const PaperStage& stage : paper.stages) {
    paper.gpu_hours += stage.gpu_hours;
    paper.dollars += stage.dollars;
    paper.unrounded_gpu_hours += stage.unrounded_gpu_hours;
  }
  paper.unrounded_dollars = paper.unrounded_gpu_hours * kPrice;
}

void AddV3Compute(PaperCost& v3) {
  const TrainFlops flops = CountTrainFlops(V3Config());
  const double main = flops.PerToken(4096, false), with_mtp = flops.PerToken(4096, true);
  v3.checks.push_back(
      {"training compute a token at 4K",
       fmt::format("6 × 36 625 603 584 + {:.4g} MFLOP × 4097/2 pairs", flops.per_pair / 1e6),
       main / 1e9, "GFLOP", "250",
       fmt::format("without MTP; with it {:.1f}, that is {:.1f} or {:.1f} % more: the printed "
                   "figure fits without",
                   with_mtp / 1e9, (with_mtp - main) / 1e9, 100 * (with_mtp - main) / main)});
  const double total = main * 14.8e12;
  v3.checks.push_back({"pre-training compute", fmt::format("{:.2f} GFLOP × 14.8 T", main / 1e9),
                       total, "FLOP", "", ""});
  const double achieved = total / (2664e3 * 3600);
  v3.checks.push_back({"achieved by one GPU", fmt::format("{:.4g} / (2664K × 3600 s)", total),
                       achieved / 1e12, "TFLOP/s", "385",
                       "measured, causal; 0.4 % apart, the hours are rounded"});
  v3.checks.push_back({"share of the bf16 peak", fmt::format("{:.1f} / 989", achieved / 1e12),
                       100 * achieved / kBf16Peak, "%", "38.94", "the GEMMs ran in fp8"});
  const double short_tokens = 1000.0 * 1920 * 32768, long_tokens = 1000.0 * 480 * 131072;
  const double extension =
      short_tokens * flops.PerToken(32768, false) + long_tokens * flops.PerToken(131072, false);
  v3.checks.push_back(
      {"context extension, share of peak",
       fmt::format("62.9 B tokens × {:.0f} GFLOP (32K) + 62.9 B × {:.0f} (128K), in 119K hours",
                   flops.PerToken(32768, false) / 1e9, flops.PerToken(131072, false) / 1e9),
       100 * extension / (119e3 * 3600 * kBf16Peak), "%", "",
       "119K is as printed; this says that it is plausible"});
}

PaperCost V3() {
  PaperCost v3;
  v3.name = "v3";
  v3.title = "DeepSeek-V3";
  v3.source = "arXiv:2412.19437, Table 1; checks from arXiv:2505.09343, Tables 2 and 4";
  v3.stages = {Stage("pre-training", 2664e3, 180e3 * 14.8,
                     "180K GPU-hours a trillion tokens × 14.8 trillion"),
               Stage("context extension", 119e3, 119e3, "as printed"),
               Stage("post-training", 5e3, 5e3, "as printed")};
  Sum(v3);
  v3.checks.push_back({"a trillion tokens on 2048 GPUs", "180K / (2048 × 24 h)",
                       180e3 / (2048 * 24), "days", "3.7", "3.66 rounded"});
  v3.checks.push_back({"pre-training on 2048 GPUs", "2664K / (2048 × 24 h)", 2664e3 / (2048 * 24),
                       "days", "", "the report says: less than two months"});
  const double day = 15360.0 * 4096 / 19.926 * 86400;
  v3.checks.push_back({"tokens a day, measured step",
                       "15 360 sequences × 4096 tokens / 19.926 s × 86 400 s", day / 1e9, "billion",
                       "272.80", ""});
  v3.checks.push_back({"GPU-hours at that rate", "14.8 T / 272.80 B × 2048 × 24 h",
                       14.8e12 / 272.80e9 * 2048 * 24 / 1e3, "thousand", "2664",
                       "180K is rounded to thousands, 0.1 % apart"});
  AddV3Compute(v3);
  v3.excluded = {"research, ablations and failed experiments", "staff, data, networks, electricity",
                 "owning GPUs: $2 an hour is a rent that the report assumes"};
  return v3;
}

PaperCost R1() {
  PaperCost r1;
  r1.name = "r1";
  r1.title = "DeepSeek-R1, on top of DeepSeek-V3-Base";
  r1.source = "arXiv:2501.12948v2, Table 7";
  r1.stages = {Stage("R1-Zero", 101e3, 64 * 8 * 198.0, "64 nodes × 8 GPUs × 198 h = 101 376"),
               Stage("SFT data", 5e3, 5e3, "as printed"),
               Stage("R1", 41e3, 64 * 8 * 80.0, "64 nodes × 8 GPUs × 80 h = 40 960")};
  Sum(r1);
  r1.checks.push_back({"R1-Zero in dollars, unrounded", "101 376 × $2", 101376 * kPrice / 1e3,
                       "thousand dollars", "202", "the report rounds the hours first: 101K × $2"});
  r1.checks.push_back({"R1 in dollars, unrounded", "40 960 × $2", 40960 * kPrice / 1e3,
                       "thousand dollars", "82", ""});
  r1.checks.push_back({"total hours, unrounded", "101 376 + 5000 + 40 960",
                       r1.unrounded_gpu_hours / 1e3, "thousand", "147", ""});
  r1.checks.push_back({"total dollars, unrounded", "147 336 × $2", r1.unrounded_dollars / 1e3,
                       "thousand dollars", "294",
                       "would print as 295: the rounding of the hours shows here"});
  r1.checks.push_back({"hours that 101K GPU-hours are", "101K / 512", 101e3 / 512, "h", "198",
                       "\"about\" in the report; 198 h is 101.4K"});
  r1.checks.push_back({"share of V3's cost", "147K / 2788K", 100 * 147.0 / 2788, "%", "", ""});
  r1.excluded = {"DeepSeek-V3-Base: hadal cost --paper v3", "experiments on smaller models"};
  return r1;
}

std::string Thousands(double value) { return fmt::format("{:g}K", value / 1e3); }

std::string Dollars(double value) {
  return value >= 1e6 ? fmt::format("${:.3f}M", value / 1e6) : fmt::format("${:g}K", value / 1e3);
}

}  // namespace

Result<PaperCost> CostOfPaper(std::string_view name) {
  if (name == "v3" || name == "V3") return V3();
  if (name == "r1" || name == "R1") return R1();
  return Error{Code::kNotFound, fmt::format("paper '{}' is unknown; there are v3 and r1",
                                            Printable(std::string(name.substr(0, 40))))};
}

std::string PaperText(const PaperCost& paper) {
  std::string out = fmt::format("{}: H800 at ${} an hour\n{}\n\n", paper.title,
                                paper.price_per_gpu_hour, paper.source);
  out += fmt::format("{:<20}{:>10}{:>11}   {}\n", "stage", "GPU-hours", "dollars", "arithmetic");
  std::string hours;
  for (const PaperStage& s : paper.stages) {
    out += fmt::format("{:<20}{:>10}{:>11}   {}\n", s.name, Thousands(s.gpu_hours),
                       Dollars(s.dollars), s.arithmetic);
    hours += (hours.empty() ? "" : " + ") + Thousands(s.gpu_hours);
  }
  out += fmt::format("{:<20}{:>10}{:>11}   {}; {} × ${}\n", "total", Thousands(paper.gpu_hours),
                     Dollars(paper.dollars), hours, Thousands(paper.gpu_hours),
                     paper.price_per_gpu_hour);
  out += "\nchecks\n";
  for (const CostLine& c : paper.checks) {
    out += fmt::format("  {}\n    {} = {} {}", c.what, c.arithmetic, HumanNumber(c.value), c.unit);
    if (!c.printed.empty()) out += fmt::format("; the source prints {}", c.printed);
    if (!c.note.empty()) out += fmt::format(" ({})", c.note);
    out += '\n';
  }
  out += "\nnot included: ";
  for (size_t i = 0; i < paper.excluded.size(); ++i) out += (i > 0 ? "; " : "") + paper.excluded[i];
  return out + "\n";
}

}  // namespace hadal
