// Small parts of the commands: counts, replays, conversations, printing, peers, perplexity.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "cli/answer_json.h"
#include "cli/bench_peers.h"
#include "cli/conversation.h"
#include "cli/inspect.h"
#include "cli/line_reader.h"
#include "cli/perplexity.h"
#include "cli/session.h"
#include "cli/testing_tiny_model.h"
#include "cli/thought_printer.h"
#include "kernels/limits.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

class CommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_command_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string File(const std::string& name, const std::string& text) {
    EXPECT_TRUE(WriteFileAtomic(folder_ / name, text).ok());
    return folder_ / name;
  }
  fs::path folder_;
};

// The published configurations, and the counts that follow from them.
constexpr const char* kV3 =
    R"({"model_type":"deepseek_v3","num_hidden_layers":61,"hidden_size":7168,"vocab_size":129280,
    "max_position_embeddings":163840,"num_attention_heads":128,"num_key_value_heads":128,
    "q_lora_rank":1536,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
    "v_head_dim":128,"intermediate_size":18432,"moe_intermediate_size":2048,
    "n_routed_experts":256,"num_experts_per_tok":8,"n_shared_experts":1,"first_k_dense_replace":3,
    "moe_layer_freq":1,"n_group":8,"topk_group":4,"topk_method":"noaux_tc","scoring_func":"sigmoid",
    "norm_topk_prob":true,"routed_scaling_factor":2.5,"rms_norm_eps":1e-6,"rope_theta":10000,
    "num_nextn_predict_layers":1,"hidden_act":"silu","tie_word_embeddings":false,
    "rope_scaling":{"type":"yarn","factor":40,"original_max_position_embeddings":4096,
    "beta_fast":32,"beta_slow":1,"mscale":1.0,"mscale_all_dim":1.0}})";
constexpr const char* kV2 =
    R"({"model_type":"deepseek_v2","num_hidden_layers":60,"hidden_size":5120,"vocab_size":102400,
    "max_position_embeddings":163840,"num_attention_heads":128,"num_key_value_heads":128,
    "q_lora_rank":1536,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
    "v_head_dim":128,"intermediate_size":12288,"moe_intermediate_size":1536,
    "n_routed_experts":160,"num_experts_per_tok":6,"n_shared_experts":2,"first_k_dense_replace":1,
    "moe_layer_freq":1,"n_group":8,"topk_group":3,"topk_method":"group_limited_greedy",
    "scoring_func":"softmax","norm_topk_prob":false,"routed_scaling_factor":16.0,
    "rms_norm_eps":1e-6,"rope_theta":10000,"hidden_act":"silu","tie_word_embeddings":false})";
constexpr const char* kV2Lite =
    R"({"model_type":"deepseek_v2","num_hidden_layers":27,"hidden_size":2048,"vocab_size":102400,
    "max_position_embeddings":163840,"num_attention_heads":16,"num_key_value_heads":16,
    "q_lora_rank":null,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,
    "v_head_dim":128,"intermediate_size":10944,"moe_intermediate_size":1408,"n_routed_experts":64,
    "num_experts_per_tok":6,"n_shared_experts":2,"first_k_dense_replace":1,"moe_layer_freq":1,
    "n_group":1,"topk_group":1,"topk_method":"greedy","scoring_func":"softmax",
    "norm_topk_prob":false,"routed_scaling_factor":1.0,"rms_norm_eps":1e-6,"rope_theta":10000,
    "hidden_act":"silu","tie_word_embeddings":false})";

TEST_F(CommandTest, InspectCountsPublishedConfigurations) {
  struct Case {
    const char* config;
    int64_t total, active, active_without_embedding, kv_bytes;
  };
  for (const Case& c : {Case{kV3, 671'026'404'352, 37'552'282'624, 36'625'603'584, 70'272},
                        Case{kV2, 235'741'434'880, 21'375'800'320, 20'851'512'320, 69'120},
                        Case{kV2Lite, 15'706'484'224, 2'661'150'208, 2'451'435'008, 31'104}}) {
    const auto i = Inspect(File("config.json", c.config));
    ASSERT_TRUE(i.ok()) << i.error().message;
    EXPECT_EQ(i->counts.total_parameters, c.total);
    EXPECT_EQ(i->counts.active_parameters, c.active);
    EXPECT_EQ(i->counts.active_without_embedding, c.active_without_embedding);
    const std::string json = InspectionToJson(*i, false);
    EXPECT_NE(json.find("\"kv_bytes_per_token\": " + std::to_string(c.kv_bytes) + ","),
              std::string::npos);
    EXPECT_NE(json.find("\"total_parameters\": " + std::to_string(c.total) + ","),
              std::string::npos);
    // The folder alone does as well.
    EXPECT_TRUE(Inspect(folder_).ok());
  }
  const auto v3 = Inspect(File("config.json", kV3));
  EXPECT_EQ(v3->counts.routing_biases, 14'848);
  EXPECT_EQ(v3->counts.mtp_parameters, 11'610'067'968);
}

TEST_F(CommandTest, InspectFailsWithTheFileNamed) {
  const auto i = Inspect(File("config.json", "{}"));
  ASSERT_FALSE(i.ok());
  EXPECT_NE(i.error().message.find("config.json"), std::string::npos);
  EXPECT_FALSE(Inspect(folder_ / "missing.gguf").ok());
  EXPECT_FALSE(Inspect(File("broken.gguf", "GGUF")).ok());
}

TEST_F(CommandTest, PerplexityFollowsTheProtocol) {
  const std::string path = folder_ / "tiny.gguf";
  ASSERT_TRUE(WriteTinyGguf("llama", DType::kF32, path).ok());
  const Exec exec(2, *ChooseIsa());
  const auto file = WeightFile::Open(path);
  const auto model = Model::Load(exec, *file);
  ASSERT_TRUE(model.ok());
  const int64_t n = 32;
  std::vector<int32_t> ids;
  for (int i = 0; i < 3 * n + 5; ++i) ids.push_back((i * 37 + i / 7) % 256);
  const auto p = MeasurePerplexity(**model, ids, 256, {.context = n, .chunks = -1, .progress = {}});
  ASSERT_TRUE(p.ok()) << p.error().message;
  EXPECT_EQ(p->chunks, 3);                    // the incomplete chunk is dropped
  EXPECT_EQ(p->scored, 3 * (n - n / 2 - 1));  // the second half but the last
  // By hand, chunk by chunk.
  double nll = 0;
  const KvCache cache((*model)->config(), KvType::kF16, 2);
  const int32_t blocks[] = {0, 1};
  for (int64_t c = 0; c < 3; ++c) {
    std::vector<int32_t> chunk(ids.begin() + c * n, ids.begin() + (c + 1) * n);
    chunk[0] = 256;
    const SeqInput seq{
        .blocks = blocks, .start = 0, .tokens = chunk, .expanded = true, .logits = n};
    const ForwardResult r = (*model)->Forward({&seq, 1}, cache);
    for (int64_t i = n / 2; i < n - 1; ++i) {
      double sum = 0;
      for (const float v : r.logits[i]) sum += std::exp(double(v));
      nll += std::log(sum) - r.logits[i][chunk[static_cast<size_t>(i + 1)]];
    }
  }
  EXPECT_NEAR(p->value, std::exp(nll / static_cast<double>(p->scored)), 1e-4 * p->value);
  EXPECT_GT(p->error, 0);
  const auto two =
      MeasurePerplexity(**model, ids, 256, {.context = n, .chunks = 2, .progress = {}});
  EXPECT_EQ(two->chunks, 2);
  EXPECT_FALSE(
      MeasurePerplexity(**model, {1, 2, 3}, -1, {.context = n, .chunks = -1, .progress = {}}).ok());
  EXPECT_FALSE(
      MeasurePerplexity(**model, ids, -1, {.context = 2, .chunks = -1, .progress = {}}).ok());
}

TEST_F(CommandTest, ReplayNamesWhatIsWrong) {
  EXPECT_FALSE(ParseReplay("").ok());
  EXPECT_FALSE(ParseReplay("[]").ok());
  const auto missing = ParseReplay(R"({"params":{},"context":10,"prompt_ids":[1],"ids":[-1]})");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("'ids'"), std::string::npos) << missing.error().message;
  const auto text = ParseReplay(R"({"params":{},"context":"x"})");
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.error().message.find("'context'"), std::string::npos);
}

TEST_F(CommandTest, ConversationUndoRetrySaveLoad) {
  Conversation c;
  c.SetSystem("be brief");
  EXPECT_FALSE(c.Undo());
  EXPECT_FALSE(c.TakeBackAnswer());
  c.Add({"user", "one", ""});
  c.Add({"assistant", "1", "hm"});
  c.Add({"user", "two \xff", ""});
  c.Add({"assistant", "2", ""});
  EXPECT_NE(c.ToJson().find("two \xef\xbf\xbd"), std::string::npos);
  EXPECT_TRUE(c.TakeBackAnswer());
  EXPECT_EQ(c.messages().size(), 4u);
  EXPECT_TRUE(c.Undo());
  EXPECT_EQ(c.messages().back().content, "1");
  const std::string path = folder_ / "chat.json";
  ASSERT_TRUE(c.Save(path).ok());
  Conversation other;
  ASSERT_TRUE(other.Load(path).ok());
  EXPECT_EQ(other.ToJson(), c.ToJson());
  EXPECT_EQ(other.messages()[2].thinking, "hm");
  c.Reset();
  EXPECT_EQ(c.messages().size(), 1u);
  for (const char* bad :
       {"", "{}", "[1]", R"([{"role":"user"}])", R"([{"role":"tool\u001b","content":"x"}])"}) {
    EXPECT_FALSE(other.Load(File("bad.json", bad)).ok()) << bad;
  }
  EXPECT_EQ(other.messages().size(), 3u);
}

TEST_F(CommandTest, SettingsAreChecked) {
  SamplingParams p;
  int64_t tokens = -1;
  EXPECT_TRUE(ChangeSetting("temperature 0.25", p, tokens, 100).ok());
  EXPECT_EQ(p.temperature, 0.25f);
  EXPECT_TRUE(ChangeSetting("top-k=5", p, tokens, 100).ok());
  EXPECT_EQ(p.top_k, 5);
  EXPECT_TRUE(ChangeSetting("max_tokens 7", p, tokens, 100).ok());
  EXPECT_EQ(tokens, 7);
  for (const char* bad : {"", "temperature", "temperature -1", "temperature nan", "temperature 1x",
                          "top_p 2", "colour red", "max_tokens -5", "seed -1"}) {
    EXPECT_FALSE(ChangeSetting(bad, p, tokens, 100).ok()) << bad;
  }
  EXPECT_EQ(p.temperature, 0.25f);
}

TEST_F(CommandTest, LinesContinueAndEnd) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::string text = "one\r\ntwo \\\nmore\n\nlast";
  ASSERT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(ends[1]);
  LineReader reader(ends[0]);
  std::string line;
  for (const char* expected : {"one", "two \nmore", "", "last"}) {
    ASSERT_EQ(reader.Read(line), LineReader::Outcome::kLine);
    EXPECT_EQ(line, expected);
  }
  EXPECT_EQ(reader.Read(line), LineReader::Outcome::kEnd);
  close(ends[0]);
}

std::string Printed(const char* mode, bool terminal) {
  using Part = ThoughtSplitter::Part;
  char* data = nullptr;
  size_t size = 0;
  FILE* out = open_memstream(&data, &size);
  ThoughtPrinter printer(mode, terminal, out);
  printer.Print({Part::kThought, "let me \x1b[2Jsee"});
  printer.Print({Part::kAnswer, "42\x07"});
  printer.Finish("");
  EXPECT_EQ(printer.thought(), "let me \x1b[2Jsee");
  EXPECT_EQ(printer.answer(), "42\x07");
  fclose(out);
  std::string text(data, size);
  free(data);
  return text;
}

TEST_F(CommandTest, ThoughtsAreShownCollapsedOrHidden) {
  EXPECT_EQ(Printed("show", false), "[thinking]\nlet me [2Jsee\n[answer]\n42\n");
  EXPECT_EQ(Printed("show", true), "\x1b[2mlet me [2Jsee\x1b[0m\n\n42\n");
  EXPECT_EQ(Printed("collapse", false), "[thought: 3 words]\n42\n");
  EXPECT_EQ(Printed("hide", false), "42\n");
  EXPECT_EQ(Printed("hide", true), "42\n");
}

TEST_F(CommandTest, HeldTextNeverShowsAStopString) {
  HeldText held({"STOP"});
  std::string shown;
  for (const char* piece : {"abc", "def S", "TO", "P!"}) shown += held.Push(piece);
  EXPECT_EQ(shown.find('S'), std::string::npos);
  shown += held.Finish(5);  // "STOP!"
  EXPECT_EQ(shown, "abcdef ");
  HeldText plain({});
  EXPECT_EQ(plain.Push("x"), "x");
  EXPECT_EQ(plain.Finish(0), "");
}

TEST_F(CommandTest, PeersOutputIsRead) {
  const auto speeds = ParseLlamaBench(
      R"([{"n_prompt":512,"n_gen":0,"avg_ts":672.5},{"n_prompt":0,"n_gen":128,"avg_ts":67.25}])");
  ASSERT_TRUE(speeds.ok());
  EXPECT_EQ(speeds->prefill, 672.5);
  EXPECT_EQ(speeds->decode, 67.25);
  EXPECT_FALSE(ParseLlamaBench("").ok());
  EXPECT_FALSE(ParseLlamaBench("[{}]").ok());
  EXPECT_EQ(*ParseBatchedBench("main: n_kv_max\n{\"pl\": 16, \"speed_tg\": 301.5}\n"), 301.5);
  EXPECT_EQ(*ParseBatchedBench("| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s |\n"
                               "| 16 | 8 | 16 | 384 | 0.495 | 517.17 | 0.453 | 282.64 | 0.9 |\n"),
            282.64);
  EXPECT_FALSE(ParseBatchedBench("nothing").ok());
  EXPECT_EQ(*RunProgram({"printf", "a b"}), "a b");
  EXPECT_FALSE(RunProgram({"false"}).ok());
  EXPECT_FALSE(RunProgram({"/no/such/program"}).ok());
}

TEST_F(CommandTest, LimitsArePlausible) {
  const Exec exec(1, *ChooseIsa());
  const MachineLimits limits = MeasureLimits(exec);
  EXPECT_GT(limits.read_bytes, 0.1e9);
  EXPECT_LT(limits.read_bytes, 2000e9);
  EXPECT_GT(limits.f32_ops, 0.1e9);
  EXPECT_GT(limits.bf16_ops, limits.f32_ops / 4);
  EXPECT_GT(limits.int8_ops, limits.f32_ops / 4);
}

}  // namespace
}  // namespace hadal::cli
