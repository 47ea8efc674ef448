// The report: shows what there is, names what is damaged, and lets nothing out of its text.
#include "train/report.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "base/file.h"
#include "base/rng.h"
#include "train/evaluation.h"
#include "train/ledger.h"
#include "train/metrics.h"
#include "train/report_chart.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

// The tags of the page in order, by name: "p", "/p"; those that close themselves left out. Fails on
// what is not well-formed: an attribute whose quote does not end, a < that starts no tag.
std::vector<std::string> Tags(const std::string& html) {
  std::vector<std::string> tags;
  for (size_t at = 0; (at = html.find('<', at)) != std::string::npos;) {
    size_t end = at + 1;
    char quote = 0;
    for (; end < html.size() && (quote != 0 || html[end] != '>'); ++end) {
      if (quote != 0) {
        quote = html[end] == quote ? 0 : quote;
      } else if (html[end] == '"' || html[end] == '\'') {
        quote = html[end];
      } else if (html[end] == '<') {
        ADD_FAILURE() << "a < inside a tag: " << html.substr(at, 60);
      }
    }
    if (end == html.size()) {
      ADD_FAILURE() << "a tag without end: " << html.substr(at, 60);
      return tags;
    }
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.back() != '/') tags.push_back(tag.substr(0, tag.find_first_of(" \n")));
    at = end;
  }
  return tags;
}

// Every opened tag is closed in order.
void ExpectBalanced(const std::string& html) {
  std::vector<std::string> open;
  for (const std::string& tag : Tags(html)) {
    if (tag == "!doctype" || tag == "meta") continue;
    if (tag.front() != '/') {
      open.push_back(tag);
      continue;
    }
    ASSERT_FALSE(open.empty()) << tag;
    ASSERT_EQ("/" + open.back(), tag);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty()) << open.back();
}

class ReportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_report_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Put(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path, std::ios::binary) << text;
  }
  // Renders and checks what must hold for any input.
  std::string Render() {
    const auto page = RenderReport(folder_);
    EXPECT_TRUE(page.ok()) << page.error().message;
    if (!page.ok()) return {};
    for (const std::string& tag : Tags(*page)) {
      EXPECT_NE(tag, "script");
      EXPECT_NE(tag, "img");
      EXPECT_NE(tag, "iframe");
      EXPECT_NE(tag, "link");
    }
    ExpectBalanced(*page);
    for (const char* outside :
         {"http://", "https://", "url(", "@import", "src=", "javascript:\""}) {
      EXPECT_EQ(page->find(outside), std::string::npos) << outside;
    }
    return *page;
  }
  fs::path folder_;
};

std::string Metrics(int64_t steps, int64_t layers, int64_t experts) {
  std::string text;
  for (int64_t step = 1; step <= steps; ++step) {
    StepRecord r;
    r.step = step;
    r.loss = 8 / std::sqrt(static_cast<double>(step));
    r.lr = 3e-4;
    r.grad_norm = step == steps / 2 ? 1e6 : 1.0;
    r.tokens = 1024;
    r.total_tokens = 1024 * step;
    r.seconds = 0.5;
    r.tokens_per_second = 2048;
    r.peak_share = 0.4;
    if (step % 10 == 0) r.validation_loss = r.loss + 0.1;
    for (int64_t l = 0; l < layers; ++l) {
      r.expert_tokens.emplace_back(static_cast<size_t>(experts), 64);
      r.expert_tokens.back()[0] = 256;
    }
    r.max_over_mean_load = MaxOverMean(r.expert_tokens);
    text += ToJsonLine(r);
  }
  return text;
}

Ledger SampleLedger() {
  Ledger l;
  l.tokens = 102400;
  l.train_flops = 1e12;
  l.core_seconds = 3600;
  l.wall_seconds = 1800;
  l.machines = {{"host", "A <CPU>", 2, 3600, std::nullopt}};
  l.price_per_core_hour = 0.25;
  return l;
}

TEST_F(ReportTest, AWholeRun) {
  Put("metrics.jsonl", Metrics(100, 3, 8));
  Put("ledger.json", SampleLedger().ToJson());
  Put("run.json", R"({"name":"my run","commands":["./hadal train x.toml"],"seed":42,
      "hashes":{"data":"sha256:abc"}})");
  Put("samples.jsonl",
      "{\"step\":50,\"prompt\":\"1+1\",\"completion\":\"3\"}\n"
      "{\"step\":100,\"prompt\":\"1+1\",\"completion\":\"add\\n</think>\\ntwo\"}\n");
  Put("evaluation.json", R"([{"task":"gsm8k","n":200,"correct":50,"low":0.19,"high":0.31},
      {"task":"sum:1","family":"sum","level":1,"n":10,"correct":9,"pass_at_1":0.9,"low":0.6,"high":1},
      {"task":"sum:2","family":"sum","level":2,"n":10,"correct":4,"pass_at_1":0.4}])");
  Put("claims.json", R"([{"claim":"FP8","must":"≤ 0.25 %","measured":0.2,"holds":true},
      {"claim":"MLA","holds":false},{"claim":"MTP"}])");
  Put("recipe.toml", "[model]\nlayers = 4\n");
  const std::string page = Render();
  for (const char* part : {"my run",
                           "Loss (nats a token)",
                           "validation",
                           "Tokens a second",
                           "40.0 %",
                           "▲ higher values cut",
                           "Learning rate",
                           "Expert load",
                           "3 MoE layers",
                           "Steps 1 to 25",
                           "level 2",
                           "90 %",
                           "25 %",
                           "19 % to 31 %",
                           "two",
                           "class=\"think\"",
                           "at step 50",
                           "holds",
                           "fails",
                           "not run",
                           "$0.25",
                           "A &lt;CPU&gt;",
                           "./hadal train x.toml",
                           "hashes.data",
                           "sha256:abc",
                           "layers = 4"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(page.find("Not shown"), std::string::npos);
  EXPECT_EQ(page, Render());  // the same bytes
  const auto path = WriteReport(folder_);
  ASSERT_TRUE(path.ok());
  EXPECT_EQ(*ReadFile(*path), page);
}

TEST_F(ReportTest, HostileTextStaysText) {
  const std::string evil =
      R"(</pre></div><script>alert(1)</script><img src=x onerror=alert(1)>" onload='x'><style>*{}&amp;)";
  const auto quoted = [&](std::string text) {
    std::string out;
    for (const char c : text)
      out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return "\"" + out + "\"";
  };
  const std::string e = quoted(evil);
  StepRecord r;
  r.step = 1;
  r.note = evil;
  r.skipped = true;
  Put("metrics.jsonl", ToJsonLine(r));
  Ledger ledger = SampleLedger();
  ledger.currency = ledger.energy_source = ledger.machines[0].cpu = evil;
  ledger.machines[0].joules = 1;
  Put("ledger.json", ledger.ToJson());
  Put("run.json", "{\"name\":" + e + ",\"command\":" + e + "," + e + ":" + e + "}");
  Put("samples.jsonl",
      "{\"step\":1,\"prompt\":" + e + ",\"completion\":" + e + "}\n{\"step\":1,\"prompt\":" + e +
          ",\"completion\":" + quoted("<think>" + evil + "</think>" + evil) + "}\n");
  Put("evaluation.json", "[{\"task\":" + e + "},{\"family\":" + e + ",\"level\":1}]");
  Put("claims.json", "[{\"claim\":" + e + ",\"source\":" + e + ",\"must\":" + e +
                         ",\"measured\":" + e + ",\"recipe\":" + e + "}]");
  Put("recipe.toml", evil);
  Put("javascript:x/report.html", "");
  Put("recipe.json", "{\"stages\":[{\"name\":" + e + ",\"verb\":" + e + ",\"status\":" + e +
                         ",\"run_dir\":\"javascript:x\"},{\"name\":\"b\",\"run_dir\":" + e + "}]}");
  const auto page = RenderReport(folder_);
  ASSERT_TRUE(page.ok()) << page.error().message;
  size_t styles = 0;
  for (const std::string& tag : Tags(*page)) {
    EXPECT_NE(tag, "script");
    EXPECT_NE(tag, "img");
    styles += tag == "style" ? 1 : 0;
  }
  EXPECT_EQ(styles, 1u);
  ExpectBalanced(*page);
  EXPECT_EQ(page->find("<script"), std::string::npos);
  EXPECT_NE(page->find("&lt;script&gt;alert(1)"), std::string::npos);
  EXPECT_NE(page->find("href=\"./javascript%3Ax/report.html\""), std::string::npos);
  EXPECT_NE(page->find("default-src 'none'"), std::string::npos);
}

TEST_F(ReportTest, EvaluationsWhileTrainingAreDrawnAndTheirAnswersAreText) {
  std::string metrics;
  for (int64_t step = 1; step <= 20; ++step) {
    StepRecord r;
    r.step = step;
    r.loss = 1;
    if (step % 10 == 0) {
      r.evaluation = {0.5, 4, 0, 1, {{"chain:1", 0.25}, {"chain:2", 0.75}, {"sort<b>:1", 0.5}}};
    }
    metrics += ToJsonLine(r);
  }
  Put("metrics.jsonl", metrics);
  EvaluatedSample sample = {"chain:1", "wrong", "<i>7", "5", "2+3 <script>alert(1)</script>", ""};
  const std::string hostile = "</pre><script>alert(2)</script>";
  sample.completion = "<think>early</think>one";
  std::string samples = SampleLine(10, sample);
  sample.completion = "<think>" + hostile + "</think>" + hostile + "seven";
  Put("samples.jsonl", samples + SampleLine(20, sample));
  const std::string page = Render();  // refuses any script tag
  for (const char* part :
       {"pass@1 while training", "<span><i class=\"c0\"></i>mean</span>",
        "<span><i class=\"c1\"></i>chain</span>", "sort&lt;b&gt;", "at step 10", "early",
        "&lt;script&gt;alert(1)", "&lt;script&gt;alert(2)", "seven", "&lt;i&gt;7", "wrong"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
}

TEST(SampleLineTest, IsBoundedAndKeepsBothEnds) {
  const auto filler = [](const char* what) {
    std::string text;
    while (text.size() < 100'000) text += what;
    return text;
  };
  const std::string line =
      SampleLine(7, {filler("t"), "right", filler("e"), filler("g"), "from" + filler("é") + "to",
                     "<think>first" + filler("思") + "last</think>then" + filler("\xff") + "end"});
  EXPECT_LT(line.size(), 6 * kSampleTextBytes);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_TRUE(line.starts_with("{\"step\":7,"));
  for (const char* part : {"from", "to\"", "<think>first", "last</think>then", "end\""}) {
    EXPECT_NE(line.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(line.find("思\xef\xbf\xbd"), std::string::npos) << "half a character";
}

TEST_F(ReportTest, DamageIsNamedAndTheRestShown) {
  Put("metrics.jsonl", "garbage\n" + Metrics(5, 1, 4) + "{\"step\":6,\"lo");
  Put("ledger.json", "{\"tokens\":");
  Put("run.json", "[1,2]");
  Put("samples.jsonl",
      std::string("\xff\xfe\n[]\n{\"step\":1,\"prompt\":7,\"completion\":null}\n\0x", 48));
  Put("evaluation.json", "{\"not\":\"a list\"}");
  Put("claims.json", "[1,\"x\",{}]");
  Put("recipe.json", "{\"stages\":[7]}");
  const std::string page = Render();
  for (const char* part :
       {"Not shown", "metrics.jsonl: 1 lines are no records, the first is line 1", "torn",
        "ledger.json: not a ledger", "run.json: not an object", "evaluation.json: not a list",
        "claims.json: 2 entries are no objects", "recipe.json: a stage that is no object",
        "Loss (nats a token)"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
}

TEST_F(ReportTest, NumbersThatNoChartCanShow) {
  std::string text;
  const double inf = std::numeric_limits<double>::infinity();
  int64_t step = 0;
  for (const double value : {std::nan(""), inf, 1e308, -1e308, 5e-324, 0.0, 1e29, -1e29}) {
    StepRecord r;
    r.step = step += std::numeric_limits<int64_t>::max() / 10;
    r.loss = r.grad_norm = r.lr = r.tokens_per_second = r.peak_share = r.seconds = value;
    r.mtp_loss = r.balance_loss = r.distill_loss = value;
    r.validation_loss = r.validation_bits_per_byte = value;
    r.max_over_mean_load = value;
    r.tokens = r.total_tokens = std::numeric_limits<int64_t>::max();
    r.expert_tokens = {{}, {0}, {std::numeric_limits<int64_t>::max(), 0}};
    text += ToJsonLine(r);
  }
  Put("metrics.jsonl", text);
  Put("evaluation.json",
      R"([{"task":"a","n":-5,"correct":9223372036854775807,"pass_at_1":1e300,"low":-1e300,"high":null},
          {"family":"f","level":-9223372036854775808},{"family":"f","level":9223372036854775807}])");
  const std::string page = Render();
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_EQ(page.find("inf\""), std::string::npos);
  EXPECT_NE(page.find("Distillation loss"), std::string::npos);
  StepRecord only;
  only.step = 1;
  only.loss = std::nan("");
  Put("metrics.jsonl", ToJsonLine(only));
  EXPECT_NE(Render().find("no finite value"), std::string::npos);
}

TEST_F(ReportTest, StaysSmallForLongRuns) {
  Put("metrics.jsonl", Metrics(1500, 2, 200));
  std::string samples;
  for (int i = 0; i < 800; ++i) {
    samples += fmt::format("{{\"step\":{},\"prompt\":\"{}\",\"completion\":\"{}\"}}\n", i / 100,
                           i % 100, std::string(7000, 'x'));
  }
  Put("samples.jsonl", samples);
  const std::string page = Render();
  EXPECT_LT(page.size(), size_t{600} << 10);
  EXPECT_NE(page.find("128 columns"), std::string::npos);
}

TEST_F(ReportTest, ARecipeShowsItsStages) {
  Put("pre/metrics.jsonl", Metrics(20, 1, 4));
  Put("pre/ledger.json", SampleLedger().ToJson());
  Put("pre/report.html", "x");
  Put("pre/run.json", R"({"title":"nano/pre","seed":7})");
  Put("pre/done.json", R"({"key":"k","seconds":100})");
  Put("sft/metrics.jsonl", Metrics(5, 0, 0));
  Put("sft/ledger.json", SampleLedger().ToJson());
  Put("eval/done.json", R"({"key":"k","seconds":50})");
  Put("eval/evaluation.json", R"({"model":"m","tasks":[
      {"task":"gsm8k","family":"gsm8k","level":0,"n":10,"samples":40,"correct":20,"pass@1":0.53},
      {"task":"text","family":"text","level":0,"bits_per_byte":1.234}]})");
  std::string samples;
  for (int i = 0; i < 40; ++i) {
    samples += fmt::format(
        R"({{"task":"{}","verdict":"{}","gold":"<42>","extracted":"41","prompt":"q{}","completion":"a"}})",
        i < 30 ? "first" : "second", i % 2 == 0 ? "right" : "wrong", i);
    samples += "\n";
  }
  Put("eval/samples.jsonl", samples);
  Put("recipe.toml", "name = \"nano\"\n");
  Put("recipe.json",
      R"({"name":"nano","stages":[{"name":"pretrain","run_dir":"pre","status":"done"},
      {"name":"tune","run_dir":"sft"},{"name":"evaluate","run_dir":"eval"},
      {"name":"out","run_dir":"../elsewhere"},{"name":"tokenizer"}]})");
  const std::string page = Render();
  for (const char* part :
       {"nano", "href=\"./pre/report.html\"", "<details>", "gsm8k", "20 / 40", "53 %", "1.234",
        "bits a byte", "$0.50", "out: its folder is not inside", "tokenizer", "2:30", "first",
        "second", "wanted <bdi>&lt;42&gt;</bdi>, got <bdi>41</bdi>", "Training loss over tokens",
        "Validation loss over tokens", "hadal recipe recipe.toml"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  size_t cards = 0;
  for (size_t at = 0; (at = page.find("card talk", at)) != std::string::npos; ++at) ++cards;
  EXPECT_EQ(cards, 8u);  // two of each task and verdict
}

TEST_F(ReportTest, AnyByteMayBeWrong) {
  const std::string files[][2] = {
      {"metrics.jsonl", Metrics(4, 2, 3)},
      {"ledger.json", SampleLedger().ToJson()},
      {"run.json", R"({"name":"n","commands":["a","b"],"x":{"y":[1,{"z":null}]}})"},
      {"samples.jsonl", "{\"step\":1,\"prompt\":\"p\",\"completion\":\"<think>t</think>c\"}\n"},
      {"evaluation.json", R"([{"task":"t","family":"f","level":1,"n":10,"correct":9,"low":0.5}])"},
      {"claims.json", R"([{"claim":"c","must":"m","holds":true}])"},
      {"recipe.json", R"({"name":"r","stages":[{"name":"s","run_dir":"."},{"run_dir":"a"}]})"}};
  Rng rng(7);
  for (int round = 0; round < 40; ++round) {
    for (const auto& [name, text] : files) {
      std::string damaged = text;
      const int changes = static_cast<int>(rng.Below(4));
      for (int i = 0; i < changes; ++i) {
        const size_t at = rng.Below(damaged.size());
        const char* const pieces[] = {"<", "\"", "\xff", "9", "-", "[", "}", "e999", "\n", "null"};
        if (rng.Below(3) == 0) {
          damaged.erase(at, rng.Below(20));
        } else {
          damaged.replace(at, 1, pieces[rng.Below(std::size(pieces))]);
        }
        if (damaged.empty()) break;
      }
      Put(name, damaged);
    }
    Render();
    if (HasFailure()) FAIL() << "round " << round;
  }
}

TEST_F(ReportTest, WhatIsNoRunIsAnError) {
  const auto empty = RenderReport(folder_);
  ASSERT_FALSE(empty.ok());
  EXPECT_EQ(empty.error().code, Code::kNotFound);
  EXPECT_FALSE(RenderReport(folder_ / "absent").ok());
  EXPECT_FALSE(WriteReport(folder_ / "absent").ok());
  EXPECT_FALSE(fs::exists(folder_ / "report.html"));
}

TEST(EscapeTest, EveryDangerousCharacter) {
  EXPECT_EQ(internal::EscapeHtml("<a b=\"c\" d='e'>&\x1b[31m\x01 \xff 中\n"),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;[31m \xef\xbf\xbd 中\n");
}

TEST(ChartTest, AxisAndGaps) {
  internal::ChartSpec spec;
  spec.title = "t";
  spec.series = {{"s", {0, 1, 2, 3, 4}, {1, 2, std::nan(""), 4, 5}, false}};
  const std::string svg = internal::LineChart(spec);
  const size_t at = svg.find("class=\"line c0\" d=\"") + 19;
  const std::string path = svg.substr(at, svg.find('"', at) - at);
  EXPECT_EQ(std::count(path.begin(), path.end(), 'M'), 2) << path;  // the NaN splits the line
  EXPECT_EQ(std::count(path.begin(), path.end(), 'L'), 2);
  EXPECT_NE(svg.find(">3</text>"), std::string::npos);  // a tick
}

TEST(ChartTest, NothingButZerosHasNoNegativeAxis) {
  internal::ChartSpec spec;
  spec.series = {{"", {1, 2, 3}, {0, 0, 0}, true}};
  spec.figure = internal::Figure::kShare;
  spec.from_zero = true;
  const std::string flat = internal::LineChart(spec);
  EXPECT_NE(flat.find(">0 %<"), std::string::npos) << flat;
  EXPECT_EQ(flat.find(">-"), std::string::npos) << flat;
}

TEST(HeatMapTest, RunsOfOneLevelAreOneShape) {
  const std::string svg = internal::HeatMap("t", {{1, 1, 1, 4}, {0, std::nan(""), 1.02, 1}}, 50);
  EXPECT_NE(svg.find("class=\"h4\" d=\"M0 0h3v1h-3zM2 1h2v1h-2z\""), std::string::npos) << svg;
  EXPECT_NE(svg.find("class=\"h8\" d=\"M3 0h1v1h-1z\""), std::string::npos);
  EXPECT_NE(svg.find("class=\"h0\" d=\"M0 1h1v1h-1z\""), std::string::npos);
}

}  // namespace
}  // namespace hadal
