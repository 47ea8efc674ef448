// Students taught as a user teaches them: by a live teacher, by its stored logits, by its text.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "base/hash.h"
#include "cli/testing_recipe.h"
#include "cli/testing_tiny_model.h"
#include "comm/testing_mpirun.h"
#include "data/logits.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using internal::Mpirun, internal::NoRanks, internal::Ran, internal::RunCommand;

constexpr const char* kStudent = R"([[stage]]
name = "student"
kind = "train"
tokenizer = "TEACHER/tokenizer"
data = ["TEACHER/talks/train"]
sequence_length = 96
batch_sequences = 4
steps = 5
[stage.teacher]
FROM
weight = 0.6
direction = "reverse_kl"
[stage.model]
model_type = "llama"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
max_position_embeddings = 256
rope_theta = 10000.0
rms_norm_eps = 1e-6
hidden_act = "silu"
attention_bias = false
mlp_bias = false
tie_word_embeddings = true
)";
constexpr const char* kLogits = R"([[stage]]
name = "logits"
kind = "logits"
model = "TEACHER/pretrain/model"
data = ["TEACHER/talks/train"]
sequence_length = 96
top_k = 6
)";
constexpr const char* kStudentJson =
    R"({"model_type":"llama","hidden_size":32,"intermediate_size":48,"num_hidden_layers":1,
"num_attention_heads":2,"num_key_value_heads":1,"head_dim":16,"max_position_embeddings":256,
"rope_theta":10000.0,"rms_norm_eps":1e-6,"hidden_act":"silu","attention_bias":false,
"mlp_bias":false,"tie_word_embeddings":true)";

std::string Hadal(const std::string& arguments) {
  return std::string(HADAL_BINARY) + " " + arguments;
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string HashOf(const std::string& path) {
  const auto hash = Sha256File(path);
  return hash.ok() ? *hash : hash.error().message;
}

// The tiny recipe, run once: problems, tokenizer, talks in several shards, pretrain.
class DistillTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new std::string(testing::TempDir() + "hadal-distill-" + std::to_string(getpid()));
    fs::remove_all(*folder_);
    fs::create_directories(*folder_);
    std::string recipe = kTinyRecipe;
    recipe.insert(recipe.find("validation = 0.05"), "shard_tokens = 8192\n");
    ASSERT_TRUE(WriteFileAtomic(*folder_ + "/teacher.toml", recipe).ok());
    const Ran r = RunCommand(
        Hadal("train " + *folder_ + "/teacher.toml -q --threads 2 -o " + *folder_ + "/teacher"));
    ASSERT_EQ(r.status, 0) << r.output;
    ASSERT_TRUE(fs::exists(*folder_ + "/teacher/talks/train/00001.shard"));
  }
  static void TearDownTestSuite() {
    fs::remove_all(*folder_);
    delete folder_;
  }
  static std::string File(const std::string& name) { return *folder_ + "/" + name; }
  // Writes NAME.toml of these stages and the command that runs it.
  static std::string Recipe(const std::string& name, const std::string& stages, int threads = 1) {
    const std::string text = "name = \"tiny\"\nseed = 7\n" + stages;
    EXPECT_TRUE(
        WriteFileAtomic(File(name + ".toml"), Replaced(text, "TEACHER", File("teacher"))).ok());
    return Hadal("recipe " + File(name + ".toml") + " -q --threads " + std::to_string(threads) +
                 " -o " + File(name));
  }
  static std::string Student(const std::string& from) { return Replaced(kStudent, "FROM", from); }
  static std::string Weights(const std::string& run) {
    return HashOf(File(run + "/student/model/model.safetensors"));
  }
  // Conversations of a user's own.
  static std::string Talks() {
    std::string rows;
    for (int i = 0; i < 24; ++i) {
      rows += nlohmann::json{{"messages",
                              {{{"role", "user"}, {"content", "say " + std::to_string(i)}},
                               {{"role", "assistant"}, {"content", "it is " + std::to_string(i)}}}}}
                  .dump() +
              "\n";
    }
    EXPECT_TRUE(WriteFileAtomic(File("talks.jsonl"), rows).ok());
    return File("talks.jsonl");
  }
  static std::string* folder_;
};
std::string* DistillTest::folder_;

TEST_F(DistillTest, StoredLogitsGiveTheBitsOfALiveTeacherOnAnyNumberOfRanks) {
  const std::string live = Student("model = \"TEACHER/pretrain/model\"\ntop_k = 6");
  const std::string stored = kLogits + Student("logits = \"stage:logits\"");
  Ran r = RunCommand(Recipe("live", live));
  ASSERT_EQ(r.status, 0) << r.output;
  r = RunCommand(Recipe("stored", stored));
  ASSERT_EQ(r.status, 0) << r.output;
  ASSERT_EQ(Weights("live").size(), 64u) << Weights("live");
  EXPECT_EQ(Weights("stored"), Weights("live"));
  const auto metrics = ReadFile(File("stored/student/metrics.jsonl"));
  EXPECT_NE(metrics->find("\"distill_loss\":"), std::string::npos);
  if (!NoRanks().empty()) return;
  r = RunCommand(Mpirun(2) + Recipe("ranks", stored));
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_EQ(Weights("ranks"), Weights("live"));
  int files = 0;
  for (const auto& entry : fs::directory_iterator(File("stored/logits"))) {
    if (entry.path().extension() != ".logits") continue;
    ++files;
    EXPECT_EQ(HashOf(entry.path()),
              HashOf(File("ranks/logits/") + entry.path().filename().string()));
  }
  EXPECT_GE(files, 2);
}

TEST_F(DistillTest, StoredLogitsThatDoNotFitAreRefused) {
  ASSERT_EQ(RunCommand(Recipe("made", kLogits)).status, 0);
  const auto refused = [&](const std::string& from, const std::string& change,
                           const std::string& message) {
    std::string stages = Student("logits = \"" + File("made/logits") + "\"");
    if (!from.empty()) stages = Replaced(stages, from, change);
    const Ran r = RunCommand(Recipe("refused", stages));
    EXPECT_EQ(r.status, 1) << message;
    EXPECT_NE(r.output.find(message), std::string::npos) << message << ": " << r.output;
    EXPECT_FALSE(fs::exists(File("refused/student/model")));
  };
  refused("weight = 0.6", "weight = 0.6\ntop_k = 7", "lists 6 tokens a row, teacher.top_k wants 7");
  refused("weight = 0.6", "weight = 0.6\ntemperature = 2.0", "at temperature 1");
  refused("weight = 0.6", "weight = 0.6\nmodel = \"x\"", "wants either `model`");
  refused("talks/train", "talks/validation", "no teacher's logits of ");
  refused("sequence_length = 96", "sequence_length = 64", "same sequence_length");
  refused("hidden_size = 32", "hidden_size = 32\nvocab_size = 400", "the student of 400");
  fs::path first, last;
  for (const auto& entry : fs::directory_iterator(File("made/logits"))) {
    if (entry.path().extension() != ".logits") continue;
    if (first.empty()) first = entry.path();
    last = entry.path();
  }
  const std::string good = ReadFile(first).value();
  std::string bad = good;
  bad[bad.size() / 2] ^= 16;
  ASSERT_TRUE(WriteFileAtomic(first, bad).ok());
  refused("", "", "does not fit its checksum");
  ASSERT_TRUE(WriteFileAtomic(first, good).ok());
  fs::remove(last);
  refused("", "", "no teacher's logits of ");
}

TEST_F(DistillTest, AFullDiskLeavesNoHalfOfALogitShard) {
  // 300 KB hold the logits of one shard of three.
  const std::string disk = File("disk"), logits = disk + "/run/logits";
  const std::string run =
      Replaced(Recipe("full", kLogits), "-o " + File("full"), "-o " + disk + "/run");
  const Ran r = RunCommand(
      "unshare -rm sh -c 'mkdir -p " + disk + " && mount -t tmpfs -o size=300k tmpfs " + disk +
      " || exit 77; " + run + "; echo code $?; ls -A " + logits + "; mount -o remount,size=60m " +
      disk + " && " + run + " && echo whole && cat " + logits + "/logits.json'");
  if (r.status == 77 || r.output.find("unshare") != std::string::npos) {
    GTEST_SKIP() << "no file system can be mounted here: " << r.output;
  }
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_NE(r.output.find("No space left on device"), std::string::npos) << r.output;
  const size_t failed = r.output.find("code 1"), whole = r.output.find("whole");
  ASSERT_LT(failed, whole) << r.output;
  const std::string left = r.output.substr(failed, whole - failed);
  EXPECT_EQ(left.find(".tmp"), std::string::npos) << "half a file: " << left;
  EXPECT_NE(left.find(".logits"), std::string::npos) << "the first is whole: " << left;
  EXPECT_EQ(left.find("logits.json"), std::string::npos) << left;
  EXPECT_NE(r.output.find("\"kept\": 1", whole), std::string::npos) << r.output;
}

TEST_F(DistillTest, ATeachersTextIsTheSameEachTimeAndTeaches) {
  const std::string generate = R"([[stage]]
name = "answers"
kind = "generate"
model = "TEACHER/pretrain/model"
families = ["chain"]
levels = [1]
items = 16
samples = 2
temperature = 1.0
top_p = 1.0
max_tokens = 120
only_right = false
[[stage]]
name = "words"
kind = "dataset"
tokenizer = "TEACHER/tokenizer"
format = "conversation"
sources = ["stage:answers/train.jsonl"]
validation = 0.0
)";
  std::string student = Student("");
  student = Replaced(student, "TEACHER/talks/train", "stage:words");
  student = Replaced(student, "[stage.teacher]\n\nweight = 0.6\ndirection = \"reverse_kl\"\n", "");
  student = Replaced(student, "steps = 5", "steps = 5\nvalidate = false");
  for (const int threads : {1, 2}) {
    const std::string name = "text" + std::to_string(threads);
    const Ran r = RunCommand(Recipe(name, generate + student, threads));
    ASSERT_EQ(r.status, 0) << r.output;
    const auto report = nlohmann::json::parse(*ReadFile(File(name + "/answers/generate.json")));
    EXPECT_EQ(report["answers"], 32);
    EXPECT_GT(report["kept"], 3);
    EXPECT_EQ(report["failed"], 0);
  }
  EXPECT_EQ(HashOf(File("text1/answers/train.jsonl")), HashOf(File("text2/answers/train.jsonl")));
  EXPECT_EQ(Weights("text1"), Weights("text2"));
  EXPECT_EQ(Weights("text1").size(), 64u) << Weights("text1");
}

TEST_F(DistillTest, TheVerbWritesARecipeAndRunsIt) {
  ASSERT_TRUE(WriteFileAtomic(File("student.json"), std::string(kStudentJson) + "}").ok());
  const std::string base = "distill -m " + File("teacher/pretrain/model") + " --student " +
                           File("student.json") + " --data " + Talks() +
                           " --steps 4 --batch 4 --sequence-length 64 --top-k 5 --kl reverse "
                           "--learning-rate 1e-3 -q --threads 1 -o ";
  Ran r = RunCommand(Hadal(base + File("beside")));
  ASSERT_EQ(r.status, 0) << r.output;
  r = RunCommand(Hadal(base + File("ahead") + " --store-logits"));
  ASSERT_EQ(r.status, 0) << r.output;
  ASSERT_EQ(Weights("beside").size(), 64u) << Weights("beside");
  EXPECT_EQ(Weights("ahead"), Weights("beside"));
  const std::string recipe = ReadFile(File("ahead/recipe.toml")).value();
  for (const char* line : {"kind = \"logits\"", "direction = \"reverse_kl\"", "steps = 4"}) {
    EXPECT_NE(recipe.find(line), std::string::npos) << recipe;
  }
  // The same command does nothing again, hadal recipe goes on, another command touches nothing.
  const auto before = fs::last_write_time(File("ahead/student/model/model.safetensors"));
  EXPECT_EQ(RunCommand(Hadal(base + File("ahead") + " --store-logits")).status, 0);
  EXPECT_EQ(
      RunCommand(Hadal("recipe -q " + File("ahead/recipe.toml") + " -o " + File("ahead"))).status,
      0);
  EXPECT_EQ(fs::last_write_time(File("ahead/student/model/model.safetensors")), before);
  r = RunCommand(Hadal(base + File("ahead")));
  EXPECT_EQ(r.status, 1);
  EXPECT_NE(r.output.find("says something else"), std::string::npos) << r.output;
  EXPECT_EQ(ReadFile(File("ahead/recipe.toml")).value(), recipe);
  // A student that is a model already, and shards.
  r = RunCommand(Hadal("distill -m " + File("teacher/pretrain/model") + " --student " +
                       File("ahead/student/model") + " --data " + File("teacher/talks") +
                       " --steps 2 --batch 2 --sequence-length 64 -q --threads 1 -o " +
                       File("again")));
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_NE(Weights("again"), Weights("ahead"));
}

TEST_F(DistillTest, TheVerbTeachesByTextWhatAGgufWrites) {
  ASSERT_TRUE(WriteTinyGguf("qwen2", DType::kF16, File("teacher.gguf")).ok());
  ASSERT_TRUE(WriteFileAtomic(File("student.json"), std::string(kStudentJson) + "}").ok());
  const std::string base = "distill -m " + File("teacher.gguf") + " --student " +
                           File("student.json") + " --data " + Talks() +
                           " --text --samples 2 --max-tokens 150 --steps 2 --batch 2 "
                           "--sequence-length 64 -q --threads 1 -o ";
  const Ran r = RunCommand(Hadal(base + File("words") + " --store-logits"));
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_EQ(Weights("words").size(), 64u) << Weights("words");
  EXPECT_TRUE(fs::exists(File("words/tokenizer/tokenizer.json")));
  const std::string rows = ReadFile(File("words/answers/train.jsonl")).value();
  EXPECT_NE(rows.find("\"say "), std::string::npos);
  EXPECT_EQ(rows.find("\"it is "), std::string::npos) << "the questions' own answers are left out";
}

TEST_F(DistillTest, TheVerbSaysWhatDoesNotFit) {
  const auto refused = [&](const std::string& student, const std::string& more,
                           const std::string& message) {
    const Ran r = RunCommand(Hadal("distill -m " + File("teacher/pretrain/model") + " --student " +
                                   student + " -q -o " + File("no") + " " + more));
    EXPECT_EQ(r.status, 1) << message;
    EXPECT_NE(r.output.find(message), std::string::npos) << r.output;
    EXPECT_FALSE(fs::exists(File("no/recipe.toml"))) << message;
  };
  const std::string talks = "--data " + Talks(), json = File("student.json");
  ASSERT_TRUE(WriteFileAtomic(json, std::string(kStudentJson) + ",\"vocab_size\":100}").ok());
  refused(json, talks, "has a vocabulary of 100 tokens, the teacher");
  ASSERT_TRUE(WriteFileAtomic(json, "[]").ok());
  refused(json, talks, "is no configuration");
  ASSERT_TRUE(WriteFileAtomic(json, std::string(kStudentJson) + "}").ok());
  refused(json, talks + " --sequence-length 300", "exceeds the context of 256");
  refused(json, talks + " " + File("teacher/talks"), "not both");
  refused(json, "--text --data " + File("teacher/talks"), "shards hold tokens alone");
  refused(json, "--data " + File("nowhere.jsonl"), "nowhere.jsonl");
  ASSERT_TRUE(WriteTinyGguf("llama", DType::kF16, File("other.gguf")).ok());
  refused(File("other.gguf"), talks, "has a vocabulary of 264 tokens, the teacher");
  EXPECT_EQ(RunCommand(Hadal("distill --kl sideways -m x --student y --data z -o w")).status, 2);
}

}  // namespace
}  // namespace hadal::cli
