// Recipes run as a user runs them: whole, killed and resumed, on several ranks, and refused.
#include "cli/recipe.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/hash.h"
#include "cli/testing_recipe.h"
#include "comm/testing_network.h"
#include "train/metrics.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipe = cli::kTinyRecipe;

struct Ran {
  int status = 0;
  std::string output;
};

Ran Shell(const std::string& command) {
  Ran r;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, "popen"};
  std::array<char, 4096> piece;
  while (fgets(piece.data(), static_cast<int>(piece.size()), pipe) != nullptr) {
    r.output += piece.data();
  }
  const int status = pclose(pipe);
  r.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return r;
}

class Recipe : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "hadal-recipe-" + std::to_string(getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    file_ = folder_ + "/tiny.toml";
    Write(kRecipe);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Write(const std::string& text) { ASSERT_TRUE(WriteFileAtomic(file_, text).ok()); }
  std::string Command(const std::string& output, const std::string& verb = "train") const {
    return std::string(HADAL_BINARY) + " " + verb + " " + file_ + " -q --threads 1 -o " + folder_ +
           "/" + output;
  }
  std::string Weights(const std::string& output) const {
    const auto hash = Sha256File(folder_ + "/" + output + "/pretrain/model/model.safetensors");
    return hash.ok() ? *hash : hash.error().message;
  }
  std::string folder_, file_;
};

TEST(ProblemCycle, GivesAFamilyAsManyTurnsAsItIsNamed) {
  cli::ProblemMix mix;
  mix.families = {Family::kSort, Family::kChain, Family::kSort};
  mix.levels = {2};
  mix.languages = {Language::kEnglish};
  cli::ProblemCycle cycle(mix, Split::kTrain);
  ProblemStream sort(
      ProblemStreamOptions{mix.seed, Family::kSort, 2, Language::kEnglish, Split::kTrain});
  ProblemStream chain(
      ProblemStreamOptions{mix.seed, Family::kChain, 2, Language::kEnglish, Split::kTrain});
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(cycle.Next().prompt, sort.Next().prompt);
    EXPECT_EQ(cycle.Next().prompt, chain.Next().prompt);
    EXPECT_EQ(cycle.Next().prompt, sort.Next().prompt);  // the next one, not the same again
  }
}

// Pairs of runs whose last validation losses differ by -2, 0 and +1 %.
TEST_F(Recipe, JudgesAClaimByItsIntervalOrItsMean) {
  const double first[] = {0.98, 1.0, 1.01};
  std::string names[2];
  for (int run = 0; run < 3; ++run) {
    for (int side = 0; side < 2; ++side) {
      const std::string folder = folder_ + "/" + (side == 0 ? "a" : "b") + std::to_string(run);
      names[side] += (run == 0 ? "\"" : ", \"") + folder + "\"";
      StepRecord early, late;
      early.step = 1;
      early.validation_loss = 9;
      early.expert_tokens = {{7, 1}};
      late.step = 2;
      late.validation_loss = side == 0 ? first[run] : 1.0;
      late.expert_tokens = {{5, 3}};
      fs::create_directories(folder);
      ASSERT_TRUE(WriteFileAtomic(folder + "/metrics.jsonl",
                                  ToJsonLine(early) + "\n" + ToJsonLine(late) + "\n")
                      .ok());
    }
  }
  const auto stage = [&](const std::string& name, const std::string& rest) {
    return "[[stage]]\nname = \"" + name + "\"\nkind = \"compare\"\nclaim = \"" + name +
           "\"\nfirst = [" + names[0] + "]\n" + rest;
  };
  const std::string pairs = "metric = \"validation_loss\"\nsecond = [" + names[1] + "]\n";
  Write("name = \"claims\"\n" + stage("interval", pairs + "at_most = 0.0\n") +
        stage("mean", pairs + "judge = \"mean\"\nat_most = 0.0\n") +
        stage("wide", pairs + "relative = true\nat_most = 0.04\n") +
        stage("load", "metric = \"max_over_mean_load\"\nat_most = 1.3\n"));
  const Ran ran = Shell(Command("judged", "recipe"));
  ASSERT_EQ(ran.status, 0) << ran.output;
  const auto claims = ReadFile(folder_ + "/judged/claims.json", 1 << 20);
  ASSERT_TRUE(claims.ok());
  const auto holds = [&](const std::string& name) {
    const size_t at = claims->find("\"claim\": \"" + name + "\"");
    const size_t verdict = claims->find("\"holds\": ", at);
    return claims->substr(verdict + 9, 4) == "true";
  };
  EXPECT_FALSE(holds("interval"));  // -0.0033 +- 0.038
  EXPECT_TRUE(holds("mean"));
  EXPECT_TRUE(holds("wide"));
  EXPECT_TRUE(holds("load"));  // 5 of 8 tokens are 1.25 times the mean
}

TEST_F(Recipe, IsResumedToTheBitAfterKill) {
  const Ran whole = Shell(Command("whole"));
  ASSERT_EQ(whole.status, 0) << whole.output;
  const std::string weights = Weights("whole");
  ASSERT_EQ(weights.size(), 64u) << weights;

  // Killed as soon as there is a checkpoint, which may be in the middle of writing the next.
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", ("exec " + Command("killed")).c_str(), nullptr);
    _exit(127);
  }
  const std::string checkpoint = folder_ + "/killed/pretrain/step-2/state.json";
  for (int i = 0; i < 6000 && !fs::exists(checkpoint); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(fs::exists(checkpoint));
  const Ran resumed = Shell(Command("killed"));
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_EQ(Weights("killed"), weights);

  // A run that is whole does nothing again.
  const auto before = fs::last_write_time(folder_ + "/whole/pretrain/model/model.safetensors");
  ASSERT_EQ(Shell(Command("whole")).status, 0);
  EXPECT_EQ(fs::last_write_time(folder_ + "/whole/pretrain/model/model.safetensors"), before);
}

TEST_F(Recipe, GivesTheSameBitsOnOneTwoAndFourRanks) {
  // MPI itself leaks at exit, which is not what sanitizers are to look for here.
  const std::string mpirun =
      "ASAN_OPTIONS=detect_leaks=0 mpirun --allow-run-as-root --oversubscribe -n ";
  if (Shell("which mpirun").status != 0) GTEST_SKIP() << "no mpirun here";
  ASSERT_EQ(Shell(Command("one")).status, 0);
  for (const int ranks : {2, 4}) {
    const std::string name = "ranks" + std::to_string(ranks);
    const Ran r = Shell(mpirun + std::to_string(ranks) + " " + Command(name));
    ASSERT_EQ(r.status, 0) << r.output;
    EXPECT_EQ(Weights(name), Weights("one")) << ranks << " ranks";
  }
  const Ran three = Shell(mpirun + "3 " + Command("three"));
  EXPECT_NE(three.status, 0);
  EXPECT_NE(three.output.find("gradient_parts"), std::string::npos) << three.output;
}

TEST_F(Recipe, SharingExpertsChangesNoBit) {
  const std::string mpirun =
      "ASAN_OPTIONS=detect_leaks=0 mpirun --allow-run-as-root --oversubscribe -n ";
  if (Shell("which mpirun").status != 0) GTEST_SKIP() << "no mpirun here";
  ASSERT_EQ(Shell(Command("one")).status, 0);
  std::string shared = kRecipe;
  shared.replace(shared.find("steps = 12"), 10, "steps = 12\nexpert_parallel = 2");
  Write(shared);
  for (const int ranks : {2, 4}) {
    const std::string name = "shared" + std::to_string(ranks);
    const Ran r = Shell(mpirun + std::to_string(ranks) + " " + Command(name));
    ASSERT_EQ(r.status, 0) << r.output;
    EXPECT_EQ(Weights(name), Weights("one")) << ranks << " ranks";
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      const auto hash = [&](const std::string& run) {
        return Sha256File(folder_ + "/" + run + "/pretrain/step-12/" + file).value();
      };
      EXPECT_EQ(hash(name), hash("one")) << ranks << " ranks, " << file;
    }
  }
  const Ran alone = Shell(Command("alone"));
  EXPECT_NE(alone.status, 0);
  EXPECT_NE(alone.output.find("expert_parallel = 2 does not divide 1 rank"), std::string::npos)
      << alone.output;

  // Its last steps on one rank again.
  fs::remove(folder_ + "/shared2/pretrain/done.json");
  fs::remove_all(folder_ + "/shared2/pretrain/model");
  fs::remove_all(folder_ + "/shared2/pretrain/step-12");
  Write(kRecipe);
  const Ran resumed = Shell(Command("shared2"));
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_EQ(Weights("shared2"), Weights("one"));
}

// kRecipe with a table of evaluation.
std::string WithEvaluation(const std::string& keys) {
  std::string text = kRecipe;
  return text.insert(text.find("[stage.schedule]"), "[stage.evaluate]\n" + keys + "\n");
}
constexpr const char* kEvaluate =
    "every = 5\nfamilies = [\"chain\", \"sort\"]\nlast_level = 1\nitems = 2\nmax_tokens = 12\n"
    "samples_shown = 3";

class RecipeEvaluation : public Recipe {
 protected:
  // Steps of the file's lines as they stand, those that were evaluated only.
  std::vector<int64_t> Steps(const std::string& output, const std::string& file) const {
    std::vector<int64_t> steps;
    const std::string text = ReadFile(folder_ + "/" + output + "/pretrain/" + file).value();
    for (size_t at = 0; at < text.size();) {
      const std::string line = text.substr(at, text.find('\n', at) - at);
      at += line.size() + 1;
      if (file == "metrics.jsonl" && line.find("\"evaluation\"") == std::string::npos) continue;
      steps.push_back(std::strtoll(line.c_str() + 8, nullptr, 10));
    }
    return steps;
  }
};

TEST_F(RecipeEvaluation, IsLoggedOnceAStepAndChangesNoBit) {
  const Ran plain = Shell(Command("plain"));
  ASSERT_EQ(plain.status, 0) << plain.output;
  Write(WithEvaluation(kEvaluate));
  const Ran asked = Shell(Command("asked", "recipe"));
  ASSERT_EQ(asked.status, 0) << asked.output;
  EXPECT_EQ(Weights("asked"), Weights("plain"));
  const std::vector<int64_t> steps = {5, 10, 12}, samples = {5, 5, 5, 10, 10, 10, 12, 12, 12};
  EXPECT_EQ(Steps("asked", "metrics.jsonl"), steps);
  EXPECT_EQ(Steps("asked", "samples.jsonl"), samples);
  const MetricsLog log = ReadMetrics(folder_ + "/asked/pretrain/metrics.jsonl").value();
  for (const StepRecord& r : log.steps) {
    if (!r.evaluation) continue;
    const StepEvaluation& e = *r.evaluation;
    EXPECT_TRUE(e.pass_at_1 >= 0 && e.pass_at_1 <= 1) << r.step;
    EXPECT_EQ(e.answers, 4) << r.step;
    EXPECT_EQ(e.errors, 0) << r.step << r.note;
    ASSERT_EQ(e.tasks.size(), 2u);
    EXPECT_EQ(e.tasks[0].first, "chain:1");
    EXPECT_NEAR(e.pass_at_1, (e.tasks[0].second + e.tasks[1].second) / 2, 1e-12);
  }
  const std::string page = ReadFile(folder_ + "/asked/report.html").value();
  EXPECT_NE(page.find("pass@1 while training"), std::string::npos);
  EXPECT_NE(page.find("at step 5"), std::string::npos);

  // As a kill after step 11 leaves it: the checkpoint of 10, lines of later steps, and a torn one.
  const std::string run = folder_ + "/asked/pretrain";
  fs::remove(run + "/done.json");
  fs::remove_all(run + "/model");
  fs::remove_all(run + "/step-12");
  for (const char* file : {"/metrics.jsonl", "/samples.jsonl"}) {
    std::string text = ReadFile(run + file).value();
    ASSERT_TRUE(WriteFileAtomic(run + file, text + "{\"step\":12,\"torn").ok());
  }
  const Ran resumed = Shell(Command("asked"));
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_EQ(Weights("asked"), Weights("plain"));
  EXPECT_EQ(Steps("asked", "metrics.jsonl"), steps);
  EXPECT_EQ(Steps("asked", "samples.jsonl"), samples);
  EXPECT_EQ(ReadMetrics(run + "/metrics.jsonl").value().rewinds, 0);
}

// Of a question asked twice with either answer as the right one, half is right whatever the model.
TEST_F(RecipeEvaluation, StopsWhereItIsGoodEnough) {
  const std::string questions = folder_ + "/choice.jsonl";
  std::string lines;
  for (const char* answer : {"0", "1"}) {
    lines +=
        std::string(R"({"question":"Which?","choices":["one","two"],"answer":)") + answer + "}\n";
  }
  ASSERT_TRUE(WriteFileAtomic(questions, lines).ok());
  const std::string tasks = "every = 3\ntasks = [\"choice:" + questions + "\"]\nstop_at = ";
  Write(WithEvaluation(tasks + "0.51"));
  ASSERT_EQ(Shell(Command("whole")).status, 0);
  EXPECT_EQ(Steps("whole", "metrics.jsonl"), (std::vector<int64_t>{3, 6, 9, 12}));
  Write(WithEvaluation(tasks + "0.5"));
  const std::string mpirun =
      "ASAN_OPTIONS=detect_leaks=0 mpirun --allow-run-as-root --oversubscribe -n 2 ";
  const bool ranks = Shell("which mpirun").status == 0;
  const Ran r = Shell((ranks ? mpirun : "") + Command("early"));
  ASSERT_EQ(r.status, 0) << r.output;
  const std::string run = folder_ + "/early/pretrain";
  const MetricsLog log = ReadMetrics(run + "/metrics.jsonl").value();
  ASSERT_EQ(log.steps.back().step, 3);
  EXPECT_NE(log.steps.back().note.find("pass@1 0.5000 reached stop_at 0.5"), std::string::npos);
  EXPECT_TRUE(fs::exists(run + "/step-3/state.json"));
  const std::string weights = Weights("early");
  EXPECT_EQ(weights, Sha256File(run + "/step-3/model.safetensors").value());
  // A kill before the model was written: the run has nothing left to train.
  fs::remove(run + "/done.json");
  fs::remove_all(run + "/model");
  ASSERT_EQ(Shell(Command("early")).status, 0);
  EXPECT_EQ(Weights("early"), weights);
  EXPECT_EQ(ReadMetrics(run + "/metrics.jsonl").value().steps.size(), 3u);
}

TEST_F(RecipeEvaluation, CostsNoTrainingWhereItFails) {
  Write(WithEvaluation("tasks = [\"answers:" + folder_ + "/long.jsonl\"]\nmax_tokens = 4"));
  ASSERT_TRUE(WriteFileAtomic(folder_ + "/long.jsonl",
                              R"({"prompt":")" + std::string(2000, '7') + R"(","answer":"1"})")
                  .ok());
  const Ran r = Shell(Command("run"));
  ASSERT_EQ(r.status, 0) << r.output;
  const MetricsLog log = ReadMetrics(folder_ + "/run/pretrain/metrics.jsonl").value();
  const StepRecord& last = log.steps.back();
  ASSERT_TRUE(last.evaluation.has_value());
  EXPECT_EQ(last.evaluation->errors, 1);
  EXPECT_TRUE(std::isnan(last.evaluation->pass_at_1));
  EXPECT_NE(last.note.find("1 of 1 answers not graded: no answer: the prompt has"),
            std::string::npos)
      << last.note;
}

TEST_F(Recipe, RefusesWhatCannotWorkBeforeAnythingRuns) {
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::string& message) {
    std::string text = kRecipe;
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    Write(text.replace(at, from.size(), to));
    const Ran r = Shell(Command("bad", "recipe"));
    EXPECT_EQ(r.status, 1) << to;
    EXPECT_NE(r.output.find(message), std::string::npos) << to << ": " << r.output;
    EXPECT_FALSE(fs::exists(folder_ + "/bad/problems/train.jsonl")) << to;
  };
  refused("batch_sequences = 4", "batch_sequence = 4",
          "tiny.toml:27: stage[3].batch_sequence: unknown key; did you mean \"batch_sequences\"?");
  refused("steps = 12", "steps = \"many\"", "steps: is text, wants a number");
  refused("steps = 12", "steps = 0", "steps: 0 is not within 1");
  refused("batch_sequences = 4", "batch_sequences = 6", "gradient_parts");
  refused("micro_tokens = 256", "micro_tokens = 64", "less than one sequence");
  refused("stage:talks", "stage:talk", "did you mean \"talks\"?");
  refused("\"chain\"", "\"chains\"", "did you mean \"chain\"?");
  refused("kind = \"dataset\"", "kind = \"datasets\"", "did you mean \"dataset\"?");
  refused("kv_lora_rank = 16", "kv_lora_rank = -16", "stage[3].model: ");
  refused("seed = 7", "seed = 7\nsteps = 3", "tiny.toml:3: steps: unknown key");
  refused("seed = 7", "seed 7", "tiny.toml:2");
  refused("kind = \"train\"", "like = \"talk\"\nkind = \"train\"", "did you mean \"talks\"?");
  const auto refused_evaluation = [&](const std::string& keys, const std::string& message) {
    refused("[stage.schedule]", "[stage.evaluate]\n" + keys + "\n[stage.schedule]", message);
  };
  refused_evaluation("evry = 4",
                     "tiny.toml:34: stage[3].evaluate.evry: unknown key; did you mean \"every\"?");
  refused_evaluation("every = 0", "stage[3].evaluate.every: 0 is not within 1");
  refused_evaluation("stop_at = 2", "stage[3].evaluate.stop_at: 2 is not within");
  refused_evaluation("items = 1.5", "1.5 is not a whole number");
  refused_evaluation("samples_shown = 1000", "samples_shown: 1000 is not within 0");
  refused_evaluation("first_level = 3\nlast_level = 2", "last_level: 2 is not within 3");
  refused_evaluation("families = [\"chian\"]", "did you mean \"chain\"?");
  refused_evaluation("families = [\"chain\", \"sort\", \"chain\"]", "\"chain\" is named twice");
  refused_evaluation("tasks = [\"gsm9k\"]", "did you mean \"gsm8k\"?");
  refused_evaluation("tasks = [\"bpb:" + file_ + "\"]", "no right answers, so no pass@1");
  refused("validate_every = 4", "validate_every = 0\nevaluate = {}",
          "stage[3].evaluate.every: missing");
  refused("steps = 12", "steps = 12\nexpert_parallel = 2\nevaluate = {}",
          "stage[3].evaluate: evaluation needs all experts on one rank");
  Write(kRecipe);
  const Ran nowhere = Shell(std::string(HADAL_BINARY) + " recipe " + file_ + " -q -o /dev/null/x");
  EXPECT_EQ(nowhere.status, 1);
  EXPECT_NE(nowhere.output.find("/dev/null/x"), std::string::npos);
}

TEST_F(Recipe, NamesDamagedShardsAndForeignCheckpoints) {
  ASSERT_EQ(Shell(Command("run")).status, 0);
  // One flipped bit in the middle of the ids.
  const std::string shard = folder_ + "/run/talks/train/00000.shard";
  FILE* f = fopen(shard.c_str(), "r+b");
  ASSERT_NE(f, nullptr);
  fseek(f, 3000, SEEK_SET);
  const int byte = fgetc(f);
  fseek(f, 3000, SEEK_SET);
  fputc(byte ^ 4, f);
  fclose(f);
  fs::remove(folder_ + "/run/pretrain/done.json");
  fs::remove_all(folder_ + "/run/pretrain/step-12");
  fs::remove_all(folder_ + "/run/pretrain/step-10");
  const Ran damaged = Shell(Command("run"));
  EXPECT_EQ(damaged.status, 1);
  EXPECT_NE(damaged.output.find("00000.shard"), std::string::npos) << damaged.output;
}

TEST_F(Recipe, SaysWhyDataCannotBeTrainedOn) {
  const auto fails = [&](const std::string& from, const std::string& to,
                         const std::string& message) {
    std::string text = kRecipe;
    // The last stage that says it is the one that counts.
    const size_t at = text.rfind(from);
    ASSERT_NE(at, std::string::npos) << from;
    Write(text.replace(at, from.size(), to));
    const Ran r = Shell(Command("bad"));
    EXPECT_EQ(r.status, 1) << to;
    EXPECT_NE(r.output.find(message), std::string::npos) << to << ": " << r.output;
    EXPECT_FALSE(fs::exists(folder_ + "/bad/pretrain/model")) << to;
  };
  const std::string sources = "\"stage:problems/train.jsonl\"", file = folder_ + "/talks.jsonl";
  ASSERT_TRUE(WriteFileAtomic(file, "").ok());
  fails(sources, "\"" + file + "\"", "nothing is left to train on");
  ASSERT_TRUE(WriteFileAtomic(file, R"({"messages":[{"role":"user","content":"hello"}]})").ok());
  fails(sources, "\"" + file + "\"", "talks.jsonl:1: no assistant message");
  fails("validation = 0.05", "validation = 0", "stage:talks has no validation split");
  Write(kRecipe);
  const std::string other =
      "[[stage]]\nname = \"other\"\nkind = \"tokenizer\"\nvocab_size = 300\n"
      "sources = [\"stage:problems/train.documents.jsonl\"]\n[[stage]]\nname = \"pretrain\"";
  std::string text = kRecipe;
  text.replace(text.find("[[stage]]\nname = \"pretrain\""), 27, other);
  text.replace(text.rfind("stage:tokenizer"), 15, "stage:other");
  Write(text);
  const Ran r = Shell(Command("foreign"));
  EXPECT_EQ(r.status, 1) << r.output;
  EXPECT_NE(r.output.find("00000.shard"), std::string::npos) << r.output;
  EXPECT_NE(r.output.find("tokenizer"), std::string::npos) << r.output;
}

TEST_F(Recipe, GoesOnToTheBitAfterAFullDisk) {
  ASSERT_EQ(Shell(Command("whole")).status, 0);
  // 700 KB hold the data, not a checkpoint.
  const std::string disk = folder_ + "/disk", run = Command("disk/run");
  const Ran r =
      Shell("unshare -rm sh -c 'mkdir -p " + disk + " && mount -t tmpfs -o size=700k tmpfs " +
            disk + " || exit 77; " + run + "; echo code $?; ls -A " + disk +
            "/run/pretrain; mount -o remount,size=60m " + disk + " && " + run + " && cp " + disk +
            "/run/pretrain/model/model.safetensors " + folder_ + "/again'");
  if (r.status == 77 || r.output.find("unshare") != std::string::npos) {
    GTEST_SKIP() << "no file system can be mounted here: " << r.output;
  }
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_NE(r.output.find("No space left on device"), std::string::npos) << r.output;
  EXPECT_NE(r.output.find("code 1"), std::string::npos) << r.output;
  EXPECT_EQ(r.output.find("step-"), std::string::npos) << "half a checkpoint: " << r.output;
  EXPECT_EQ(Sha256File(folder_ + "/again").value(), Weights("whole"));
}

class RecipeOnTwoHosts : public internal::TwoHosts {
 protected:
  void SetUp() override {
    internal::TwoHosts::SetUp();
    run_ = testing::TempDir() + "hadal-hosts-" + std::to_string(getpid());
    fs::create_directories(run_);
  }
  void TearDown() override {
    if (!run_.empty()) fs::remove_all(run_);
    internal::TwoHosts::TearDown();
  }
  std::string Command(const std::string& recipe, const std::string& output) const {
    return std::string(HADAL_BINARY) + " train " + run_ + "/" + recipe + " -q --threads 1 -o " +
           run_ + "/" + output;
  }
  std::string run_;
};

TEST_F(RecipeOnTwoHosts, HasTheBitsOfOneRank) {
  std::string shared = kRecipe;
  shared.replace(shared.find("steps = 12"), 10, "steps = 12\nexpert_parallel = 2");
  ASSERT_TRUE(WriteFileAtomic(run_ + "/plain.toml", kRecipe).ok());
  ASSERT_TRUE(WriteFileAtomic(run_ + "/shared.toml", shared).ok());
  const auto weights = [&](const std::string& output) {
    const auto hash = Sha256File(run_ + "/" + output + "/pretrain/model/model.safetensors");
    return hash.ok() ? *hash : hash.error().message;
  };
  ASSERT_EQ(Shell(Command("plain.toml", "one")).status, 0);
  for (const char* recipe : {"plain", "shared"}) {
    const int64_t before = Sent();
    const internal::Ran ran = RunBoth(1, Command(std::string(recipe) + ".toml", recipe));
    ASSERT_EQ(ran.status, 0) << ran.output;
    EXPECT_EQ(weights(recipe), weights("one")) << recipe;
    EXPECT_GT(Sent() - before, 1000000) << "the ranks did not talk across the cable";
  }
}

}  // namespace
}  // namespace hadal
