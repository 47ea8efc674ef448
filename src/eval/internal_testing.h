// A tiny random model with a byte-level tokenizer, and a backend that answers as told, for tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "eval/backend.h"
#include "infer/bundle.h"

namespace hadal::eval::testing {

inline TokenizerSpec ByteTokenizer() {
  TokenizerSpec spec;
  spec.pre = "qwen2";
  uint32_t stand_in = 256;  // GPT-2's printable stand-ins for bytes that are not
  for (uint32_t b = 0; b < 256; ++b) {
    const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    const uint32_t c = plain ? b : stand_in++;
    std::string token;
    if (c < 0x80) {
      token += static_cast<char>(c);
    } else {
      token += static_cast<char>(0xc0 | (c >> 6));
      token += static_cast<char>(0x80 | (c & 0x3f));
    }
    spec.tokens.push_back(token);
  }
  for (const char* special : {"<s>", "</s>", "<think>", "</think>"}) {
    spec.tokens.emplace_back(special);
  }
  spec.types.assign(256, 1);
  spec.types.resize(spec.tokens.size(), 3);
  spec.bos = 256;
  spec.eos = 257;
  spec.add_bos = true;
  return spec;
}

inline Bundle TinyBundle(const Exec& exec, int64_t context = 512) {
  ModelConfig c;
  c.arch = Arch::kLlama;
  c.layers = 2;
  c.width = 64;
  c.vocab = 260;
  c.context = context;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.ffn = 128;
  c.eos_ids = {257};
  Bundle bundle;
  bundle.name = "tiny";
  auto model = Model::Random(exec, c, DType::kF32, 42);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  bundle.model = *std::move(model);
  auto tokenizer = Tokenizer::FromSpec(ByteTokenizer());
  EXPECT_TRUE(tokenizer.ok()) << (tokenizer.ok() ? "" : tokenizer.error().message);
  bundle.tokenizer = std::make_unique<Tokenizer>(*std::move(tokenizer));
  bundle.thought_tags = ThoughtSplitter::FindTags(*bundle.tokenizer);
  bundle.eos_ids = {257};
  return bundle;
}

class ScriptedBackend : public Backend {
 public:
  using Script = std::function<Completion(const Prompt& prompt)>;
  explicit ScriptedBackend(Script script) : script_(std::move(script)) {}
  std::string name() const override { return "scripted"; }
  bool can_score() const override { return false; }
  Result<std::vector<Score>> ScoreTexts(std::span<const Scored>) override {
    return Error{Code::kUnsupported, "scripted"};
  }
  Status Generate(std::span<const Prompt> prompts, const Budget& budget,
                  const Done& done) override {
    last_budget = budget;
    for (size_t i = prompts.size(); i-- > 0;) {  // any order is allowed
      if (!done(i, script_(prompts[i]))) return Error{Code::kCancelled, "interrupted"};
    }
    return {};
  }
  Budget last_budget;

 private:
  Script script_;
};

}  // namespace hadal::eval::testing
