// Extraction, task files, every task's own gold answers, statistics.
#include "eval/task.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "base/rng.h"
#include "eval/evaluate.h"
#include "eval/extract.h"
#include "eval/rows.h"
#include "eval/statistics.h"

namespace hadal::eval {
namespace {

class TaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("hadal_eval_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string File(const std::string& name, const std::string& text) {
    EXPECT_TRUE(WriteFileAtomic(folder_ / name, text).ok());
    return folder_ / name;
  }
  static std::string Why(std::string_view names, const std::string& data = "../shared/data") {
    auto tasks = OpenTasks(names, data);
    return tasks.ok() ? "opened" : tasks.error().message;
  }
  std::filesystem::path folder_;
};

TEST(Extract, TheLastBoxAfterTheThoughtCounts) {
  EXPECT_EQ(FindAnswer("\\boxed{1} and \\boxed{\\frac{1}{2}}", true, false).answer, "\\frac{1}{2}");
  EXPECT_EQ(FindAnswer("<think>\\boxed{1}</think> so \\boxed{2}", true, false).answer, "2");
  EXPECT_FALSE(FindAnswer("<think>\\boxed{1}", true, false).found);
  EXPECT_FALSE(FindAnswer("<think>\\boxed{1}", false, true).found);
  EXPECT_FALSE(FindAnswer("<think>\\boxed{1}</think> I do not know", false, false).found);
  EXPECT_FALSE(FindAnswer("the answer is 5", true, true).found);
}

TEST(Extract, LooserFormsInOrder) {
  EXPECT_EQ(FindAnswer("2+2=4\n#### 4", false, true).answer, "4");
  EXPECT_EQ(FindAnswer("The answer is 3.5. Bye 9", false, false).answer, "3.5");
  EXPECT_EQ(FindAnswer("**Answer:** 12 apples.", false, true).answer, "12");
  EXPECT_EQ(FindAnswer("It costs $1,234.50 in all.", false, true).answer, "1,234.50");
  EXPECT_EQ(FindAnswer("It falls to -7 degrees", false, true).answer, "-7");
  EXPECT_EQ(FindAnswer("10-7", false, true).answer, "7");
  EXPECT_FALSE(FindAnswer("no number here", false, true).found);
  EXPECT_EQ(FindAnswer("\\boxed{1} #### 2", false, true).answer, "1");
}

TEST(Extract, CodeAndLetters) {
  EXPECT_EQ(FindCode("a\n```python\nx = 1\n```\nb\n```\nout\n```\n", true).answer, "x = 1\n");
  EXPECT_EQ(FindCode("```\nx = 1\n```\n```py\ny\n```", true).answer, "y\n");
  EXPECT_FALSE(FindCode("x = 1", true).found);
  EXPECT_EQ(FindCode("    return 1\n", false).answer, "    return 1\n");
  EXPECT_EQ(FindCode("```python\nx = 1", false).answer, "x = 1");
  EXPECT_FALSE(FindCode("<think>```python\nx\n```", false).found);
  EXPECT_EQ(FindLetter("\\boxed{B}", 4, true).answer, "B");
  EXPECT_EQ(FindLetter("The answer is (C).", 4, false).answer, "C");
  EXPECT_EQ(FindLetter("D) because", 4, false).answer, "D");
  EXPECT_FALSE(FindLetter("E", 4, false).found);
  EXPECT_FALSE(FindLetter("Because", 4, false).found);
}

TEST(Extract, AnyBytesAreSafe) {
  Rng rng(9);
  const std::string pieces[] = {"<think>",    "</think>", "\\boxed{", "}",    "####",
                                "answer is ", "```",      "python\n", "-",    ".",
                                ",",          "7",        "\n",       "\xff", "A"};
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (uint64_t n = rng.Below(25); n > 0; --n) text += pieces[rng.Below(15)];
    FindAnswer(text, false, true);
    FindCode(text, false);
    FindLetter(text, 4, false);
  }
}

TEST_F(TaskTest, NamesAreChecked) {
  EXPECT_NE(Why("gsm9k").find("did you mean \"gsm8k\""), std::string::npos);
  EXPECT_NE(Why("countdwn:1").find("did you mean \"countdown\""), std::string::npos);
  EXPECT_NE(Why("chain:9").find("levels \"9\""), std::string::npos);
  EXPECT_NE(Why("chain:3-2").find("levels"), std::string::npos);
  EXPECT_NE(Why("chain:x").find("levels"), std::string::npos);
  EXPECT_NE(Why("gsm8k:1").find("takes no"), std::string::npos);
  EXPECT_NE(Why("choice").find("name a file"), std::string::npos);
  EXPECT_EQ(Why(""), "no task named");
  EXPECT_NE(Why("gsm8k", "/nowhere").find("/nowhere/gsm8k/test.jsonl"), std::string::npos);
  EXPECT_EQ(Why("chain,mixed:2"), "opened");
  EXPECT_EQ(TaskSources().size(), 8u);
}

TEST_F(TaskTest, RowsNameWhatIsWrong) {
  EXPECT_NE(
      Why("answers:" + File("a.jsonl", "{\"prompt\":\"p\",\"answer\":1}\n[1]\n")).find("line 2"),
      std::string::npos);
  EXPECT_NE(Why("answers:" + File("b.jsonl", "{\"prompt\":\"p\"}\n")).find("\"answer\""),
            std::string::npos);
  EXPECT_NE(Why("answers:" + File("c.jsonl", "\n")).find("no rows"), std::string::npos);
  EXPECT_NE(Why("answers:" + File("d.jsonl.gz", "no gzip")).find("gzip"), std::string::npos);
  const std::string question = R"({"question":"q","choices":["a","b"],"answer":)";
  EXPECT_EQ(Why("choice:" + File("e.jsonl", question + "\"B\"}\n" + question + "0}\n")), "opened");
  EXPECT_NE(Why("choice:" + File("f.jsonl", question + "\"C\"}\n")).find("no index"),
            std::string::npos);
  EXPECT_NE(Why("bpb:" + File("g.txt", "")).find("empty"), std::string::npos);
}

TEST_F(TaskTest, PiecesOfATextAreTheText) {
  std::string text;
  while (text.size() < 5000) text += "aé深\n";
  auto tasks = OpenTasks("bpb:" + File("t.txt", text), "");
  ASSERT_TRUE(tasks.ok());
  std::string joined;
  for (int64_t i = 0; i < tasks->front()->size(); ++i) joined += tasks->front()->At(i).choices[0];
  EXPECT_EQ(joined, text);
}

TEST_F(TaskTest, ProceduralItemsAreHeldOutDistinctAndGraded) {
  auto tasks = OpenTasks("procedural:1-8", "");
  ASSERT_TRUE(tasks.ok());
  ASSERT_EQ(tasks->size(), 128u);
  for (const auto& task : *tasks) {
    std::set<std::string> ids;
    for (int64_t i = 0; i < 5; ++i) {
      const Item item = task->At(i);
      ids.insert(item.id);
      EXPECT_EQ(task->At(i).prompt, item.prompt);
      const Grade right =
          task->Judge(item, "<think>x</think>It is \\boxed{" + item.gold + "}.", true);
      EXPECT_EQ(right.verdict, Verdict::kRight) << task->info().name << ": " << item.gold;
      EXPECT_EQ(right.key, item.gold);
      EXPECT_EQ(task->Judge(item, item.gold, true).verdict, Verdict::kWrong);
      EXPECT_EQ(task->Judge(item, "", true).verdict, Verdict::kWrong);
      EXPECT_EQ(task->Judge(item, "\\boxed{no}", true).verdict, Verdict::kWrong);
    }
    EXPECT_EQ(ids.size(), 5u);
  }
}

// Each public task grades its own reference answers right, and a blank one wrong.
TEST_F(TaskTest, ReferenceAnswersAreRight) {
  for (const char* name : {"gsm8k", "math500", "humaneval", "mbpp"}) {
    auto tasks = OpenTasks(name, "../shared/data");
    if (!tasks.ok()) {
      GTEST_SKIP() << tasks.error().message;
    }
    const Task& task = *tasks->front();
    const bool code = std::string_view(name) == "humaneval" || std::string_view(name) == "mbpp";
    // A program takes a tenth of a second: a sample of them.
    const int64_t step = code ? task.size() / 12 : 1;
    for (int64_t i = 0; i < task.size(); i += step) {
      const Item item = task.At(i);
      const std::string answer =
          code ? "```python\n" + item.gold + "\n```" : "so \\boxed{" + item.gold + "}";
      const Grade grade = task.Judge(item, answer, true);
      EXPECT_EQ(grade.verdict, Verdict::kRight) << name << ' ' << item.id << ": " << grade.trace;
      if (!code || i == 0) {
        EXPECT_EQ(
            task.Judge(item, code ? "```python\npass\n```" : "\\boxed{-12345.678}", true).verdict,
            Verdict::kWrong);
      }
    }
  }
}

TEST(Statistics, WilsonAsPublished) {
  // Wilson's 95 % interval of 8 in 10 (R: prop.test(8, 10, correct = FALSE)).
  const Interval i = Wilson(8, 10);
  EXPECT_NEAR(i.low, 0.4901625, 1e-6);
  EXPECT_NEAR(i.high, 0.9433178, 1e-6);
  EXPECT_NEAR(Wilson(0, 20).high, 0.1611252, 1e-6);
  EXPECT_EQ(Wilson(0, 20).low, 0);
  EXPECT_EQ(Wilson(0, 0).high, 1);
}

TEST(Statistics, PassAtKIsUnbiased) {
  const ItemCount item{2, 5};
  EXPECT_NEAR(PassAtK({&item, 1}, 1), 0.4, 1e-12);
  EXPECT_NEAR(PassAtK({&item, 1}, 2), 1 - 3.0 / 10, 1e-12);  // 1 - C(3,2) / C(5,2)
  EXPECT_NEAR(PassAtK({&item, 1}, 4), 1, 1e-12);
  EXPECT_EQ(PassAtK({&item, 1}, 6), -1);
  // Against counting the pairs of samples of many items.
  const std::vector<ItemCount> items = {{0, 4}, {1, 4}, {4, 4}, {3, 3}};
  EXPECT_NEAR(PassAtK(items, 2), (0 + 0.5 + 1 + 1) / 4, 1e-12);
  EXPECT_NEAR(PassAt1(items), (0 + 0.25 + 1 + 1) / 4, 1e-12);
}

TEST(Statistics, BootstrapCoversAndRepeats) {
  Rng rng(3);
  int covered = 0;
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<ItemCount> items(60);
    for (ItemCount& item : items) {
      const double p = rng.NextDouble();  // mean 1/2, items differ
      item.graded = 4;
      for (int s = 0; s < 4; ++s) item.right += rng.NextDouble() < p ? 1 : 0;
    }
    const Interval i = PassAt1Interval(items, 7);
    if (trial == 0) {
      EXPECT_EQ(i.low, PassAt1Interval(items, 7).low);
    }
    covered += i.low <= 0.5 && 0.5 <= i.high ? 1 : 0;
  }
  EXPECT_GE(covered, 33);  // 38 expected, 33 or fewer has a chance of 0.5 %
  const std::vector<ItemCount> agree(20, ItemCount{4, 4});
  EXPECT_LT(PassAt1Interval(agree, 7).low, 1);
}

}  // namespace
}  // namespace hadal::eval
