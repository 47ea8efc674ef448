// The runner on scripted answers, and end to end on a tiny model through the real engine.
#include "eval/evaluate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "eval/internal_testing.h"
#include "eval/rows.h"
#include "model/trainable.h"

namespace hadal::eval {
namespace {

using nlohmann::json;
using testing::ScriptedBackend;
using testing::TinyBundle;

class EvaluateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("hadal_run_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string File(const std::string& name, const std::string& text) {
    EXPECT_TRUE(WriteFileAtomic(folder_ / name, text).ok());
    return folder_ / name;
  }
  std::vector<std::unique_ptr<Task>> Open(const std::string& names) {
    auto tasks = OpenTasks(names, "../shared/data");
    EXPECT_TRUE(tasks.ok()) << (tasks.ok() ? "" : tasks.error().message);
    return tasks.ok() ? *std::move(tasks) : std::vector<std::unique_ptr<Task>>();
  }
  std::string Questions() {
    std::string lines;
    for (int i = 0; i < 4; ++i) {
      lines +=
          "{\"prompt\":\"q" + std::to_string(i) + "\",\"answer\":\"" + std::to_string(i) + "\"}\n";
    }
    return "answers:" + File("questions.jsonl", lines);
  }
  std::vector<json> Log(const std::string& name) {
    std::vector<json> rows;
    const auto text = ReadFile(folder_ / name);
    EXPECT_TRUE(text.ok());
    for (size_t at = 0; text.ok() && at < text->size();) {
      const size_t end = text->find('\n', at);
      rows.push_back(json::parse(text->substr(at, end - at), nullptr, false));
      EXPECT_TRUE(rows.back().is_object());
      at = end + 1;
    }
    return rows;
  }
  std::filesystem::path folder_;
};

TEST_F(EvaluateTest, CountsVerdictsEstimatesAndVotes) {
  // q0 always right, q1 right in one of four samples and outvoted, q2 half broken, q3 always
  // broken.
  std::map<std::string, int> asked;
  ScriptedBackend backend([&](const Prompt& p) -> Completion {
    const int time = asked[p.text]++;
    Completion c;
    c.tokens = 3;
    c.finish = "stop";
    c.text = "\\boxed{" + p.text.substr(1) + "}";
    if (p.text == "q1" && time != 2) c.text = time == 0 ? "\\boxed{7}" : "\\boxed{14/2}";
    if ((p.text == "q2" && time < 2) || p.text == "q3") c.error = "server on fire";
    return c;
  });
  EvalOptions options;
  options.samples = 4;
  options.pass_k = {2};
  options.folder = folder_ / "out";
  options.seed = 5;
  const auto results = Evaluate(backend, Open(Questions()), options);
  ASSERT_TRUE(results.ok()) << results.error().message;
  const TaskResult& r = results->front();
  EXPECT_EQ(r.n, 3);
  EXPECT_EQ(r.samples, 16);
  EXPECT_EQ(r.correct, 4 + 1 + 2);
  EXPECT_EQ(r.wrong, 3);
  EXPECT_EQ(r.errors, 2 + 4);
  EXPECT_NE(r.first_error.find("server on fire"), std::string::npos);
  EXPECT_NEAR(r.pass1, (1 + 0.25 + 1) / 3, 1e-12);
  EXPECT_LT(r.low, r.pass1);
  EXPECT_GT(r.high, r.pass1);
  ASSERT_EQ(r.pass_k.size(), 1u);
  EXPECT_NEAR(r.pass_k[0].second, (1 + 0.5 + 1) / 3, 1e-12);
  EXPECT_EQ(r.majority_k, 4);
  EXPECT_NEAR(r.majority, 2.0 / 3, 1e-12);
  EXPECT_EQ(r.tokens, 48);
  EXPECT_FLOAT_EQ(backend.last_budget.temperature, 0.6f);

  const auto rows = Log("out/samples.jsonl");
  ASSERT_EQ(rows.size(), 16u);
  std::map<std::string, int> verdicts;
  std::set<uint64_t> seeds;
  for (const json& row : rows) {
    ++verdicts[row["verdict"]];
    seeds.insert(row["seed"].get<uint64_t>());
    EXPECT_FALSE(row["trace"].get<std::string>().empty());
  }
  EXPECT_EQ(verdicts, (std::map<std::string, int>{{"error", 6}, {"right", 7}, {"wrong", 3}}));
  EXPECT_EQ(seeds.size(), 16u);
  const auto text = ReadFile(folder_ / "out/evaluation.json");
  ASSERT_TRUE(text.ok());
  const json report = json::parse(*text, nullptr, false);
  EXPECT_EQ(report["model"], "scripted");
  EXPECT_EQ(report["tasks"][0]["n"], 3);
  EXPECT_EQ(report["tasks"][0]["prompt_hash"], r.prompt_hash);
  EXPECT_NE(ResultsToText(*results, options).find("server on fire"), std::string::npos);
}

TEST_F(EvaluateTest, OneSampleIsGreedyAndAllWrongHasAnInterval) {
  ScriptedBackend backend([](const Prompt&) { return Completion{.text = "no"}; });
  const auto results = Evaluate(backend, Open(Questions()), {});
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results->front().correct, 0);
  EXPECT_EQ(results->front().low, 0);
  EXPECT_NEAR(results->front().high, 0.4899, 1e-3);
  EXPECT_EQ(results->front().majority_k, 0);
  EXPECT_EQ(backend.last_budget.temperature, 0);
}

TEST_F(EvaluateTest, AnInterruptKeepsWhatIsThere) {
  ScriptedBackend backend([](const Prompt&) { return Completion{.text = "\\boxed{0}"}; });
  EvalOptions options;
  options.log = folder_ / "log.jsonl";
  options.progress = [](int64_t done, int64_t) { return done < 2; };
  const auto results = Evaluate(backend, Open(Questions()), options);
  ASSERT_FALSE(results.ok());
  EXPECT_EQ(results.error().code, Code::kCancelled);
  EXPECT_EQ(Log("log.jsonl").size(), 2u);
}

TEST_F(EvaluateTest, ThePromptHashIsOfThePromptsAlone) {
  ScriptedBackend backend([](const Prompt&) { return Completion{}; });
  const auto hash = [&](const std::string& names, EvalOptions options) {
    const auto results = Evaluate(backend, Open(names), options);
    return results.ok() ? results->front().prompt_hash : "";
  };
  EXPECT_EQ(hash("chain:2", {.limit = 5, .seed = 1}), hash("chain:2", {.limit = 5, .seed = 2}));
  EXPECT_NE(hash("chain:2", {.limit = 5}), hash("chain:2", {.limit = 6}));
  EXPECT_NE(hash("chain:2", {.limit = 5}), hash("chain:2:zh", {.limit = 5}));
}

TEST_F(EvaluateTest, ChoicesAreAskedWhereTheyCannotBeScored) {
  const std::string file =
      File("c.jsonl", "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":1}\n");
  std::string prompt;
  ScriptedBackend backend([&](const Prompt& p) {
    prompt = p.text;
    return Completion{.text = "\\boxed{B}"};
  });
  const auto results = Evaluate(backend, Open("choice:" + file), {});
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results->front().correct, 1);
  EXPECT_NE(prompt.find("B)  b"), std::string::npos);
  const auto text = Evaluate(backend, Open("bpb:" + file), {});
  ASSERT_FALSE(text.ok());
}

TEST_F(EvaluateTest, TheEngineAnswersEveryFamilyTheSameWayTwice) {
  const Exec exec(1, *ChooseIsa());
  const Bundle bundle = TinyBundle(exec);
  EvalOptions options;
  options.limit = 2;
  options.samples = 2;
  options.max_tokens = 8;
  options.folder = folder_ / "run";
  const auto results = EvaluateBundle(bundle, Open("procedural:1-2"), options);
  ASSERT_TRUE(results.ok()) << results.error().message;
  ASSERT_EQ(results->size(), 32u);
  for (const TaskResult& r : *results) {
    EXPECT_EQ(r.samples, 4) << r.task;
    EXPECT_EQ(r.errors, 0) << r.task << ": " << r.first_error;
    EXPECT_EQ(r.n, 2);
    EXPECT_GE(r.level, 1);
    EXPECT_GT(r.prompt_tokens, 0);
  }
  const auto first = ReadFile(folder_ / "run/samples.jsonl");
  options.engine.max_sequences = 3;
  ASSERT_TRUE(EvaluateBundle(bundle, Open("procedural:1-2"), options).ok());
  const auto second = ReadFile(folder_ / "run/samples.jsonl");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
}

TEST_F(EvaluateTest, PromptsThatDoNotFitAreErrorsNotWrongAnswers) {
  const Exec exec(1, *ChooseIsa());
  const Bundle bundle = TinyBundle(exec, 64);
  const std::string file = File("long.jsonl", "{\"prompt\":\"" + std::string(100, 'x') +
                                                  "\",\"answer\":1}\n{\"prompt\":\"short\","
                                                  "\"answer\":1}\n");
  EvalOptions options;
  options.max_tokens = 4;
  const auto results = EvaluateBundle(bundle, Open("answers:" + file), options);
  ASSERT_TRUE(results.ok()) << results.error().message;
  EXPECT_EQ(results->front().errors, 1);
  EXPECT_EQ(results->front().wrong, 1);
  EXPECT_NE(results->front().first_error.find("64"), std::string::npos);
}

// A model in training: its weights change between evaluations, and one that overflows is an error
// of the answers, not of the program.
TEST_F(EvaluateTest, AsksAModelThatSomeoneElseHolds) {
  const Exec exec(1, *ChooseIsa());
  const Bundle whole = TinyBundle(exec);
  Bundle texts = TinyBundle(exec);
  texts.model.reset();
  texts.eos_ids.push_back(5000);  // no row of this model
  ASSERT_FALSE(OpenEngineBackend(texts, {}).ok());
  const auto trained =
      TrainableModel::Create(exec, whole.model->config(), ComputeType::kF32).value();
  Parameters& p = trained->parameters();
  const auto publish = [&](float gates) {  // a factor on what is multiplied with each other
    p.Initialise(exec, 3, 0.02f);
    for (const char* name : {"gate_proj", "up_proj"}) {
      const int64_t index = p.Find("model.layers.0.mlp." + std::string(name) + ".weight");
      ASSERT_GE(index, 0);
      const View2<float> w = p.value(index);
      for (int64_t i = 0; i < w.rows * w.cols; ++i) w.data[i] *= gates;
    }
    ASSERT_TRUE(trained->Publish().ok());
    trained->model();  // packs what was published for those who hold it
  };
  publish(1);
  EvalOptions options;
  options.limit = 2;
  options.max_tokens = 6;
  std::vector<std::string> seen;
  options.seen = [&](const SampleView& s) {
    seen.push_back(s.task + '/' + s.item.id + '/' + std::string(VerdictName(s.grade.verdict)) +
                   '/' + s.completion.text);
  };
  const auto tasks = Open("chain:1");
  const auto backend = OpenEngineBackend(texts, trained->model(), {}).value();
  const auto ask = [&] {
    seen.clear();
    const auto results = Evaluate(*backend, tasks, options);
    EXPECT_TRUE(results.ok()) << results.error().message;
    return results->front();
  };
  EXPECT_EQ(ask().errors, 0);
  const std::vector<std::string> first = seen;
  ASSERT_EQ(first.size(), 2u);
  EXPECT_TRUE(first[0].starts_with("chain:1/") && first[0].find("/wrong/") != std::string::npos)
      << first[0];
  publish(1e25f);
  const TaskResult broken = ask();
  EXPECT_EQ(broken.errors, 2);
  EXPECT_EQ(broken.n, 0);
  EXPECT_NE(broken.first_error.find("layer"), std::string::npos) << broken.first_error;
  EXPECT_NE(seen.at(0).find("/error/"), std::string::npos) << seen[0];
  publish(1);
  EXPECT_EQ(ask().errors, 0);
  EXPECT_EQ(seen, first);

  const auto prompt_tokens = [&](bool raw) {
    EngineBackendOptions how;
    how.raw_prompts = raw;
    int64_t tokens = 0;
    EXPECT_TRUE(OpenEngineBackend(texts, trained->model(), how)
                    .value()
                    ->Generate(std::vector<Prompt>{{"2+3="}}, {.max_tokens = 1},
                               [&](size_t, const Completion& c) {
                                 tokens = c.prompt_tokens;
                                 return c.error.empty();
                               })
                    .ok());
    return tokens;
  };
  EXPECT_EQ(prompt_tokens(true), 1 + 4);  // BOS
  EXPECT_GT(prompt_tokens(false), 1 + 4);
}

// The log-probabilities are the model's: over all next bytes they sum to one, choices are ranked by
// them, and bits per byte are their mean.
TEST_F(EvaluateTest, ScoresAreLogProbabilities) {
  const Exec exec(1, *ChooseIsa());
  const Bundle bundle = TinyBundle(exec);
  const auto backend = OpenEngineBackend(bundle, {});
  ASSERT_TRUE(backend.ok());
  std::vector<Scored> texts;
  for (int b = 0; b < 128; ++b) texts.push_back({"abc", std::string(1, static_cast<char>(b))});
  const auto scores = (*backend)->ScoreTexts(texts);
  ASSERT_TRUE(scores.ok()) << scores.error().message;
  double sum = 0;
  for (const Score& score : *scores) {
    EXPECT_EQ(score.tokens, 1) << score.error;
    sum += std::exp(score.logprob);
  }
  EXPECT_GT(sum, 0.2);
  EXPECT_LE(sum, 1 + 1e-4);
  // log p(xy | c) = log p(x | c) + log p(y | cx).
  const auto chain =
      (*backend)->ScoreTexts(std::vector<Scored>{{"c", "xy"}, {"c", "x"}, {"cx", "y"}});
  ASSERT_TRUE(chain.ok());
  EXPECT_NEAR((*chain)[0].logprob, (*chain)[1].logprob + (*chain)[2].logprob, 1e-3);

  const std::string text = "some text that is scored byte by byte";
  const auto alone = (*backend)->ScoreTexts(std::vector<Scored>{{"", text}});
  ASSERT_TRUE(alone.ok());
  EXPECT_EQ((*alone)[0].tokens, static_cast<int64_t>(text.size()));
  const auto results = Evaluate(**backend, Open("bpb:" + File("t.txt", text)), {});
  ASSERT_TRUE(results.ok());
  EXPECT_NEAR(results->front().bits_per_byte,
              -(*alone)[0].logprob / std::log(2) / static_cast<double>(text.size()), 1e-9);

  const std::string choices =
      File("c.jsonl", "{\"question\":\"q\",\"choices\":[\"a\",\"bb\",\"ccc\"],\"answer\":0}\n");
  const auto chosen = Evaluate(**backend, Open("choice:" + choices), {.log = folder_ / "c.log"});
  ASSERT_TRUE(chosen.ok());
  const auto ranked = (*backend)->ScoreTexts(std::vector<Scored>{{"Question: q\nAnswer:", " a"},
                                                                 {"Question: q\nAnswer:", " bb"},
                                                                 {"Question: q\nAnswer:", " ccc"}});
  ASSERT_TRUE(ranked.ok());
  const bool right =
      (*ranked)[0].logprob >= (*ranked)[1].logprob && (*ranked)[0].logprob >= (*ranked)[2].logprob;
  EXPECT_EQ(chosen->front().correct, right ? 1 : 0);
}

}  // namespace
}  // namespace hadal::eval
