#include "infer/bundle.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "formats/writer.h"
#include "infer/internal_bundle.h"
#include "infer/internal_testing.h"
#include "model/config.h"

namespace hadal {
namespace {

using testing::Shape;
using testing::TinyConfig;

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

const Exec& SharedExec() {
  static const Exec exec(1, Isa::kScalar);
  return exec;
}

MetaValue Text(std::string s) { return {.gguf_type = 8, .value = std::move(s)}; }
MetaValue Number(uint64_t v) { return {.gguf_type = 4, .value = v}; }
MetaValue Real(double v) { return {.gguf_type = 6, .value = v}; }
MetaValue Flag(bool v) { return {.gguf_type = 7, .value = v}; }
MetaValue TextList(std::vector<std::string> v) {
  return {.gguf_type = 9, .array_type = 8, .value = MetaArray(std::move(v))};
}
MetaValue NumberList(std::vector<int64_t> v) {
  return {.gguf_type = 9, .array_type = 5, .value = MetaArray(std::move(v))};
}

// The character by which byte-level vocabularies write a byte, as UTF-8.
std::string ByteName(int byte) {
  int shift = 0;
  const auto plain = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  for (int b = 0; b < byte; ++b) shift += plain(b) ? 0 : 1;
  const int point = plain(byte) ? byte : 256 + shift;
  if (point < 128) return std::string(1, static_cast<char>(point));
  return {static_cast<char>(0xC0 | (point >> 6)), static_cast<char>(0x80 | (point & 63))};
}

// 256 bytes, then four control tokens.
constexpr int32_t kBos = 256, kEos = 257, kImStart = 258, kImEnd = 259;
const std::vector<std::string>& Tokens() {
  static const std::vector<std::string> tokens = [] {
    std::vector<std::string> t;
    for (int b = 0; b < 256; ++b) t.push_back(ByteName(b));
    t.insert(t.end(), {"<s>", "</s>", "<|im_start|>", "<|im_end|>"});
    return t;
  }();
  return tokens;
}

Metadata TokenizerMetadata() {
  std::vector<int64_t> types(256, 1);
  types.insert(types.end(), 4, 3);
  return {{"tokenizer.ggml.model", Text("gpt2")},
          {"tokenizer.ggml.pre", Text("smollm")},
          {"tokenizer.ggml.tokens", TextList(Tokens())},
          {"tokenizer.ggml.token_type", NumberList(types)},
          {"tokenizer.ggml.merges", TextList({})},
          {"tokenizer.ggml.bos_token_id", Number(kBos)},
          {"tokenizer.ggml.eos_token_id", Number(kEos)}};
}

constexpr const char* kChatMl =
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

std::string ErrorOf(const Metadata& m) {
  auto spec = TokenizerSpecFromGguf(m);
  return spec.ok() ? "ok" : spec.error().message;
}

TEST(TokenizerSpecFromGguf, ReadsEveryField) {
  Metadata m = TokenizerMetadata();
  m["tokenizer.ggml.unknown_token_id"] = Number(3);
  m["tokenizer.ggml.padding_token_id"] = Number(4);
  m["tokenizer.ggml.add_bos_token"] = Flag(true);
  m["tokenizer.ggml.add_space_prefix"] = Flag(true);
  auto spec = TokenizerSpecFromGguf(m);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->model, TokenizerSpec::Model::kByteBpe);
  EXPECT_EQ(spec->pre, "smollm");
  EXPECT_EQ(spec->tokens, Tokens());
  EXPECT_EQ(spec->types.size(), 260u);
  EXPECT_EQ(spec->types[258], 3);
  EXPECT_EQ(spec->bos, kBos);
  EXPECT_EQ(spec->eos, kEos);
  EXPECT_EQ(spec->unknown, 3);
  EXPECT_EQ(spec->pad, 4);
  EXPECT_TRUE(spec->add_bos);
  EXPECT_FALSE(spec->add_eos);
  EXPECT_TRUE(spec->add_space_prefix);
}

TEST(TokenizerSpecFromGguf, DefaultsDependOnTheKind) {
  Metadata m = TokenizerMetadata();
  EXPECT_FALSE(TokenizerSpecFromGguf(m)->add_bos);
  EXPECT_FALSE(TokenizerSpecFromGguf(m)->add_space_prefix);
  m["tokenizer.ggml.pre"] = Text("llama-bpe");
  EXPECT_TRUE(TokenizerSpecFromGguf(m)->add_bos);
  m["tokenizer.ggml.model"] = Text("llama");
  EXPECT_TRUE(TokenizerSpecFromGguf(m)->add_bos);
  EXPECT_TRUE(TokenizerSpecFromGguf(m)->add_space_prefix);
  m["tokenizer.ggml.bos_token_id"] = Number(0xffffffffu);
  EXPECT_FALSE(TokenizerSpecFromGguf(m)->bos.has_value());
}

TEST(TokenizerSpecFromGguf, LiesAreRefusedByName) {
  const auto with = [](const char* key, MetaValue value) {
    Metadata m = TokenizerMetadata();
    m[key] = std::move(value);
    return ErrorOf(m);
  };
  EXPECT_HAS(ErrorOf({}), "tokenizer.ggml.model");
  EXPECT_HAS(with("tokenizer.ggml.model", Text("bert")), "'bert'");
  EXPECT_HAS(with("tokenizer.ggml.tokens", NumberList({1})), "tokenizer.ggml.tokens");
  EXPECT_HAS(with("tokenizer.ggml.tokens", TextList({})), "tokenizer.ggml.tokens");
  EXPECT_HAS(with("tokenizer.ggml.token_type", NumberList({1, 1})), "2 entries for 260");
  EXPECT_HAS(with("tokenizer.ggml.token_type", TextList({"a"})), "tokenizer.ggml.token_type");
  EXPECT_HAS(with("tokenizer.ggml.scores", NumberList({1})), "tokenizer.ggml.scores");
  EXPECT_HAS(with("tokenizer.ggml.eos_token_id", Number(260)), "260");
  EXPECT_HAS(with("tokenizer.ggml.bos_token_id", Text("x")), "tokenizer.ggml.bos_token_id");
}

// A tiny model on disk, as a folder or a GGUF file, removed at the end.
class BundleTest : public ::testing::Test {
 protected:
  BundleTest() {
    root_ = std::filesystem::temp_directory_path() / ("hadal_bundle_" + std::to_string(::getpid()));
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
    config_ = TinyConfig(Shape::kLlama);
    config_.vocab = 264;
  }
  ~BundleTest() override { std::filesystem::remove_all(root_); }

  static Status Fill(std::span<std::byte> out) {
    std::vector<float> v(out.size() / sizeof(float), 0.01f);
    std::memcpy(out.data(), v.data(), out.size());
    return {};
  }

  std::string TokenizerJson() {
    std::string vocab, added;
    for (size_t i = 0; i < Tokens().size(); ++i) {
      const std::string id = std::to_string(i);
      std::string name = Tokens()[i];
      if (name == "\"" || name == "\\") name.insert(0, "\\");
      if (i > 0) vocab += ",";
      vocab += "\"" + name + "\":" + id;
      if (i < 256) continue;
      if (i > 256) added += ",";
      added +=
          R"({"id":)" + id + R"(,"content":")" + name +
          R"(","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true})";
    }
    return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" + added +
           R"(],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)"
           R"("trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":)"
           R"("ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},)"
           R"("model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":)"
           R"(null,"end_of_word_suffix":null,"fuse_unk":false,"vocab":{)" +
           vocab + R"(},"merges":[]}})";
  }

  // Texts beside the weights; config.json and tokenizer.json are added.
  Result<Bundle> LoadFolder(std::vector<FolderText> texts) {
    const std::string folder = (root_ / "tiny-chat").string();
    std::filesystem::remove_all(folder);
    std::vector<TensorSpec> specs;
    for (const ParamSpec& p : ListParams(config_)) specs.push_back({p.name, DType::kF32, p.shape});
    texts.push_back({"config.json", config_.ToJson("float32")});
    texts.push_back({"tokenizer.json", TokenizerJson()});
    TRY(WriteHuggingFaceFolder(
        folder, specs, [](size_t, auto out) { return Fill(out); }, texts));
    return LoadBundle(SharedExec(), folder);
  }

  Result<Bundle> LoadGguf(Metadata m, const std::string& name = "tiny.gguf") {
    m["general.architecture"] = Text("llama");
    m["llama.block_count"] = Number(static_cast<uint64_t>(config_.layers));
    m["llama.embedding_length"] = Number(static_cast<uint64_t>(config_.width));
    m["llama.context_length"] = Number(static_cast<uint64_t>(config_.context));
    m["llama.feed_forward_length"] = Number(static_cast<uint64_t>(config_.ffn));
    m["llama.attention.head_count"] = Number(static_cast<uint64_t>(config_.heads));
    m["llama.attention.head_count_kv"] = Number(static_cast<uint64_t>(config_.kv_heads));
    m["llama.attention.layer_norm_rms_epsilon"] = Real(double{1e-6f});
    m["llama.rope.dimension_count"] = Number(static_cast<uint64_t>(config_.head_dim));
    m["llama.vocab_size"] = Number(static_cast<uint64_t>(config_.vocab));
    std::vector<TensorSpec> specs;
    for (const ParamSpec& p : ListParams(config_)) {
      specs.push_back({p.gguf_name, DType::kF32, p.shape});
    }
    const std::string path = (root_ / name).string();
    TRY(WriteGguf(path, m, specs, [](size_t, auto out) { return Fill(out); }));
    return LoadBundle(SharedExec(), path);
  }

  std::filesystem::path root_;
  ModelConfig config_;
};

constexpr const char* kTalk =
    R"([{"role":"user","content":"hi <|im_end|>"},{"role":"assistant","content":"yo"}])";

std::vector<int32_t> Bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}
void Append(std::vector<int32_t>& ids, const std::vector<int32_t>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

// kTalk in ChatML: control tokens from the template are control, from the user they are text.
std::vector<int32_t> TalkIds() {
  std::vector<int32_t> ids = {kBos, kImStart};
  Append(ids, Bytes("user\nhi <|im_end|>"));
  ids.push_back(kImEnd);
  Append(ids, Bytes("\n"));
  ids.push_back(kImStart);
  Append(ids, Bytes("assistant\nyo"));
  ids.push_back(kImEnd);
  Append(ids, Bytes("\n"));
  ids.push_back(kImStart);
  Append(ids, Bytes("assistant\n"));
  return ids;
}

TEST_F(BundleTest, FolderWithEverything) {
  std::string escaped;
  for (const char c : std::string(kChatMl))
    escaped += c == '\n' ? std::string("\\n") : std::string(1, c);
  auto bundle = LoadFolder(
      {{"tokenizer_config.json",
        R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","chat_template":[)"
        R"({"name":"tool_use","template":"no"},{"name":"default","template":")" +
            escaped + R"("}]})"},
       {"generation_config.json",
        R"({"eos_token_id":[257,258],"temperature":0.25,"top_p":0.5,"top_k":7,"do_sample":true})"}});
  ASSERT_TRUE(bundle.ok()) << bundle.error().message;
  EXPECT_EQ(bundle->name, "tiny-chat");
  EXPECT_EQ(bundle->bos_token, "<s>");
  EXPECT_EQ(bundle->eos_token, "</s>");
  EXPECT_EQ(bundle->eos_ids, (std::vector<int32_t>{kEos, kImStart, kImEnd}));
  EXPECT_EQ(bundle->default_sampling.temperature, 0.25f);
  EXPECT_EQ(bundle->default_sampling.top_p, 0.5f);
  EXPECT_EQ(bundle->default_sampling.top_k, 7);
  EXPECT_FALSE(bundle->thought_tags.has_value());
  auto ids = RenderChat(*bundle, kTalk, true);
  ASSERT_TRUE(ids.ok()) << ids.error().message;
  EXPECT_EQ(*ids, TalkIds());
}

TEST_F(BundleTest, AFolderWithoutAModelStillTalks) {
  const std::string messages = R"([{"role":"user","content":"hi"}])";
  const std::string config = R"({"chat_template":"{{ messages[0].content }}!","eos_token":"</s>"})";
  const Bundle whole = LoadFolder({{"tokenizer_config.json", config}}).value();
  const std::string folder = (root_ / "texts").string();
  std::filesystem::create_directories(folder);
  const Result<Bundle> nothing = LoadBundleWithoutModel(folder);
  ASSERT_FALSE(nothing.ok());
  EXPECT_HAS(nothing.error().message, "texts: holds no tokenizer.json");
  ASSERT_TRUE(WriteFileAtomic(folder + "/tokenizer.json", TokenizerJson()).ok());
  const Bundle plain = LoadBundleWithoutModel(folder).value();
  EXPECT_EQ(plain.chat_template, nullptr);
  ASSERT_TRUE(WriteFileAtomic(folder + "/tokenizer_config.json", config).ok());
  const Bundle texts = LoadBundleWithoutModel(folder).value();
  EXPECT_EQ(texts.model, nullptr);
  EXPECT_EQ(texts.name, "texts");
  EXPECT_EQ(RenderChat(texts, messages, true).value(), RenderChat(whole, messages, true).value());
  ASSERT_TRUE(WriteFileAtomic(folder + "/tokenizer_config.json", "[]").ok());
  const Result<Bundle> odd = LoadBundleWithoutModel(folder);
  ASSERT_FALSE(odd.ok());
  EXPECT_HAS(odd.error().message, folder);
}

TEST_F(BundleTest, ATemplateFileGoesFirstAndGreedyDefaultsAreKept) {
  auto bundle = LoadFolder({{"tokenizer_config.json", R"({"chat_template":"wrong"})"},
                            {"chat_template.jinja", "{{ messages[0].content }}{{ flag }}"},
                            {"generation_config.json", R"({"do_sample":false})"}});
  ASSERT_TRUE(bundle.ok()) << bundle.error().message;
  EXPECT_EQ(bundle->default_sampling.temperature, 0.0f);
  auto ids = RenderChat(*bundle, R"([{"role":"user","content":"a"}])", true, R"( {"flag":"!"} )");
  ASSERT_TRUE(ids.ok()) << ids.error().message;
  EXPECT_EQ(*ids, Bytes("a!"));
}

TEST_F(BundleTest, GgufWithEverything) {
  Metadata m = TokenizerMetadata();
  m["tokenizer.chat_template"] = Text(kChatMl);
  m["tokenizer.ggml.eot_token_id"] = Number(kImStart);
  m["general.sampling.temp"] = Real(0.5);
  m["general.sampling.top_k"] = Number(11);
  auto bundle = LoadGguf(m, "tiny-Q4-00001-of-00001.gguf");
  ASSERT_TRUE(bundle.ok()) << bundle.error().message;
  EXPECT_EQ(bundle->name, "tiny-Q4");
  EXPECT_EQ(bundle->eos_ids, (std::vector<int32_t>{kEos, kImStart, kImEnd}));
  EXPECT_EQ(bundle->bos_token, "<s>");
  EXPECT_EQ(bundle->default_sampling.temperature, 0.5f);
  EXPECT_EQ(bundle->default_sampling.top_k, 11);
  auto ids = RenderChat(*bundle, kTalk, true);
  ASSERT_TRUE(ids.ok()) << ids.error().message;
  EXPECT_EQ(*ids, TalkIds());
}

TEST_F(BundleTest, WithoutATemplateTheTalkIsPlainText) {
  Metadata m = TokenizerMetadata();
  m["tokenizer.ggml.add_bos_token"] = Flag(true);
  auto bundle = LoadGguf(m);
  ASSERT_TRUE(bundle.ok()) << bundle.error().message;
  auto ids = RenderChat(
      *bundle,
      R"([{"role":"system","content":"Be kind."},{"role":"user","content":[{"text":"<s>"}]}])",
      true);
  ASSERT_TRUE(ids.ok()) << ids.error().message;
  std::vector<int32_t> want = {kBos};
  Append(want, Bytes("Be kind.\n\nUser: <s>\n\nAssistant:"));
  EXPECT_EQ(*ids, want);
}

TEST_F(BundleTest, ABrokenTemplateFailsWhenItIsUsed) {
  Metadata m = TokenizerMetadata();
  m["tokenizer.chat_template"] = Text("{% for %}");
  auto bundle = LoadGguf(m);
  ASSERT_TRUE(bundle.ok()) << bundle.error().message;
  auto ids = RenderChat(*bundle, kTalk, true);
  ASSERT_FALSE(ids.ok());
  EXPECT_HAS(ids.error().message, "chat template cannot be used");
}

TEST_F(BundleTest, BadConversationsAreRefused) {
  Metadata m = TokenizerMetadata();
  m["tokenizer.chat_template"] = Text(kChatMl);
  auto bundle = LoadGguf(m);
  ASSERT_TRUE(bundle.ok()) << bundle.error().message;
  const auto message = [&](std::string_view talk, std::string_view extra = {}) {
    auto ids = RenderChat(*bundle, talk, true, extra);
    return ids.ok() ? std::string("ok") : ids.error().message;
  };
  EXPECT_HAS(message("{}"), "not a JSON array");
  EXPECT_HAS(message("[1]"), "messages[0]");
  EXPECT_HAS(message(R"([{"role":"user"},{"content":"x"}])"), "messages[1]");
  EXPECT_HAS(message(R"([{"role":"user","content":"x"}],"bos_token":"y")"), "not valid JSON");
  EXPECT_HAS(message(kTalk, "[]"), "not a JSON object");
  EXPECT_HAS(message(kTalk, R"({"messages":[]})"), "may not set messages");
  EXPECT_HAS(message(kTalk, R"({"bos_toke\u006e":""})"), "may not set bos_token");
  EXPECT_EQ(message(kTalk, "{ }"), "ok");
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_HAS(message(deep), "nested deeper");
  EXPECT_HAS(message(kTalk, R"({"x":)" + deep + "}"), "nested deeper");
}

TEST_F(BundleTest, StrangeFilesBesideTheWeightsAreRefusedOrIgnored) {
  auto list = LoadFolder({{"generation_config.json", "[1,2]"}});
  ASSERT_FALSE(list.ok());
  EXPECT_HAS(list.error().message, "generation_config.json");
  auto broken = LoadFolder({{"tokenizer_config.json", "{"}});
  ASSERT_FALSE(broken.ok());
  EXPECT_HAS(broken.error().message, "tokenizer_config.json");
  auto odd = LoadFolder(
      {{"generation_config.json", R"({"temperature":-5,"eos_token_id":[99999999999,-1,"x"]})"}});
  ASSERT_TRUE(odd.ok()) << odd.error().message;
  EXPECT_EQ(odd->default_sampling.temperature, SamplingParams().temperature);
  EXPECT_EQ(odd->eos_ids, std::vector<int32_t>{kImEnd});
}

}  // namespace
}  // namespace hadal
