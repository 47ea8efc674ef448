// Trains a byte-level BPE vocabulary and writes it as tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal {

// The special tokens of DeepSeek-V3's template but begin, end and padding: roles, thought tags,
// tool and fill-in-the-middle marks.
std::vector<std::string> DeepSeekSpecialTokens();

struct BpeTrainerOptions {
  enum class Pattern : uint8_t { kDeepSeekV3, kGpt2 };
  // How runs of digits are cut before merging: left whole, each digit alone (a merge never joins
  // two digits), or in groups of up to three from the left (DeepSeek-V3).
  enum class Digits : uint8_t { kWhole, kSingle, kThrees };

  int64_t vocab_size = 32768;  // special tokens included; at least 256 + those
  Pattern pattern = Pattern::kDeepSeekV3;
  Digits digits = Digits::kThrees;
  int64_t min_count = 2;          // a pair seen less often is not merged
  int64_t max_token_bytes = 64;   // longer merges are not made
  int64_t max_words = 8ll << 20;  // distinct words counted; rarer ones are forgotten beyond this
  bool add_bos = true;            // encoding with specials starts with BOS
  std::string bos = "<｜begin▁of▁sentence｜>", eos = "<｜end▁of▁sentence｜>", pad = "<｜▁pad▁｜>";
  std::vector<std::string> special = DeepSeekSpecialTokens();  // the others, all different
  int threads = 1;  // <= 0: all; the result does not depend on it
};

struct BpeTraining {
  std::string tokenizer_json;
  std::string tokenizer_config_json;  // names BOS, EOS and padding; no chat template
  int64_t words = 0;                  // distinct
  int64_t bytes = 0;                  // of text
  int64_t vocab_size = 0;             // smaller than asked when pairs ran out
  double count_seconds = 0, merge_seconds = 0;
};

// Ids: begin, end, padding, the 256 bytes, merges in the order made, the other special tokens last.
// Words over 512 bytes are not counted. GGUF has names for three of the splits: DeepSeek-V3 with
// groups of three, GPT-2 with whole runs ("gpt-2") and with single digits ("smollm"). Merges take
// the most frequent pair; of equals the one with the lower left id, then the lower right id.
// Deterministic.
class BpeTrainer {
 public:
  static Result<BpeTrainer> Create(BpeTrainerOptions options);
  BpeTrainer(BpeTrainer&&) noexcept;
  ~BpeTrainer();

  // Counts the words of some texts. Broken UTF-8 counts as U+FFFD.
  void Add(const std::vector<std::string_view>& texts);
  // kInvalid when no text was added.
  Result<BpeTraining> Train();

 private:
  struct Impl;
  explicit BpeTrainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
