#include "tokenizer/bpe_trainer.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <queue>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/thread_pool.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using internal::HashBytes;
using internal::Scanner;
using nlohmann::json;
using Digits = BpeTrainerOptions::Digits;
using Pattern = BpeTrainerOptions::Pattern;

constexpr size_t kMaxWordBytes = 512;
constexpr int64_t kFirstByte = 3;  // after begin, end, padding

struct ViewHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return HashBytes(s, 0x5EED); }
};
using LocalCounts = std::unordered_map<std::string_view, int64_t, ViewHash>;
using Counts = std::unordered_map<std::string, int64_t, ViewHash, std::equal_to<>>;

double Seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string_view DigitPattern(Digits digits) {
  if (digits == Digits::kSingle) return "\\p{N}";
  if (digits == Digits::kThrees) return "\\p{N}{1,3}";
  return "\\p{N}+";
}

std::vector<std::string> Patterns(const BpeTrainerOptions& options) {
  std::vector<std::string> list;
  const bool gpt2 = options.pattern == Pattern::kGpt2;
  if (!gpt2 || options.digits != Digits::kWhole) list.emplace_back(DigitPattern(options.digits));
  if (!gpt2) list.emplace_back("[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+");
  list.emplace_back(internal::ScannerPattern(gpt2 ? Scanner::kGpt2 : Scanner::kDeepSeekV3));
  return list;
}

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}
struct PairHash {
  size_t operator()(uint64_t key) const { return internal::MixHash(key, 1); }
};

// Merges the most frequent pair again and again. A pair knows the words it was met in, so a merge
// touches those alone; the heap holds out-of-date counts, which are corrected when they come up.
class Merger {
 public:
  Merger(const BpeTrainerOptions& options, std::set<std::string> reserved)
      : options_(options), reserved_(std::move(reserved)) {
    for (int byte = 0; byte < 256; ++byte) {
      texts_.emplace_back(1, static_cast<char>(byte));
      by_text_[texts_.back()] = byte;
    }
  }

  void AddWord(std::string_view word, int64_t count) {
    const auto index = static_cast<uint32_t>(words_.size());
    words_.push_back(
        {static_cast<uint32_t>(symbols_.size()), static_cast<uint32_t>(word.size()), count});
    for (const char c : word) symbols_.push_back(static_cast<uint8_t>(c));
    for (size_t i = 0; i + 1 < word.size(); ++i) {
      Count(static_cast<uint8_t>(word[i]), static_cast<uint8_t>(word[i + 1]), count, index);
    }
  }

  // Token numbers here: bytes 0 to 255, then merged ones.
  void Run(int64_t merged_tokens) {
    for (const auto& [key, pair] : pairs_) Push(key, pair.count);
    while (static_cast<int64_t>(texts_.size()) - 256 < merged_tokens && !heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const auto found = pairs_.find(PairKey(top.left, top.right));
      if (found == pairs_.end() || found->second.count < options_.min_count) continue;
      if (found->second.count != top.count) {
        heap_.push({found->second.count, top.left, top.right});
        continue;
      }
      std::vector<uint32_t> where = std::move(found->second.words);
      pairs_.erase(found);
      const std::string text =
          texts_[static_cast<size_t>(top.left)] + texts_[static_cast<size_t>(top.right)];
      if (static_cast<int64_t>(text.size()) > options_.max_token_bytes) continue;
      if (reserved_.count(text) > 0) continue;
      const auto [known, added] = by_text_.emplace(text, static_cast<TokenId>(texts_.size()));
      if (added) texts_.push_back(text);
      merges_.push_back({top.left, top.right});
      grown_.clear();
      for (const uint32_t word : where) MergeIn(word, top.left, top.right, known->second);
      pairs_.erase(PairKey(top.left, top.right));  // "aaa" counts a pair that is gone now
      std::sort(grown_.begin(), grown_.end());
      grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
      for (const uint64_t key : grown_) Push(key, pairs_[key].count);
    }
  }

  const std::vector<std::string>& texts() const { return texts_; }
  const std::vector<std::pair<TokenId, TokenId>>& merges() const { return merges_; }

 private:
  struct Word {
    uint32_t begin, size;
    int64_t count;
  };
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words;
  };
  struct Candidate {
    int64_t count;
    TokenId left, right;
    bool operator<(const Candidate& other) const {  // the top of the heap is the greatest
      if (count != other.count) return count < other.count;
      return std::pair(left, right) > std::pair(other.left, other.right);
    }
  };

  void Push(uint64_t key, int64_t count) {
    if (count < options_.min_count) return;
    heap_.push({count, static_cast<TokenId>(key >> 32), static_cast<TokenId>(key & 0xFFFFFFFF)});
  }

  void Count(TokenId left, TokenId right, int64_t count, uint32_t word) {
    Pair& pair = pairs_[PairKey(left, right)];
    pair.count += count;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
  }

  void Uncount(TokenId left, TokenId right, int64_t count) {
    const auto found = pairs_.find(PairKey(left, right));
    if (found != pairs_.end()) found->second.count -= count;
  }

  void MergeIn(uint32_t index, TokenId left, TokenId right, TokenId merged) {
    Word& word = words_[index];
    TokenId* s = symbols_.data() + word.begin;
    uint32_t out = 0;
    for (uint32_t i = 0; i < word.size; ++i) {
      if (s[i] != left || i + 1 == word.size || s[i + 1] != right) {
        s[out++] = s[i];
        continue;
      }
      if (out > 0) {
        Uncount(s[out - 1], left, word.count);
        Count(s[out - 1], merged, word.count, index);
        grown_.push_back(PairKey(s[out - 1], merged));
      }
      if (i + 2 < word.size) {
        Uncount(right, s[i + 2], word.count);
        Count(merged, s[i + 2], word.count, index);
        grown_.push_back(PairKey(merged, s[i + 2]));
      }
      s[out++] = merged;
      ++i;
    }
    word.size = out;
  }

  const BpeTrainerOptions& options_;
  std::set<std::string> reserved_;
  std::vector<std::string> texts_;
  std::unordered_map<std::string, TokenId> by_text_;
  std::vector<TokenId> symbols_;
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair, PairHash> pairs_;
  std::priority_queue<Candidate> heap_;
  std::vector<uint64_t> grown_;
  std::vector<std::pair<TokenId, TokenId>> merges_;
};

Status CheckOptions(const BpeTrainerOptions& options) {
  std::set<std::string> names;
  std::vector<std::string> all = {options.bos, options.eos, options.pad};
  all.insert(all.end(), options.special.begin(), options.special.end());
  for (const std::string& name : all) {
    if (name.empty() || !internal::IsValidUtf8(name)) {
      return Error{Code::kInvalid, "a special token is empty or not UTF-8"};
    }
    if (!names.insert(name).second) {
      return Error{Code::kInvalid, "the special token " + name + " is named twice"};
    }
  }
  const auto least = static_cast<int64_t>(256 + all.size());
  const auto most = static_cast<int64_t>(internal::kMaxVocabulary);
  if (options.vocab_size < least || options.vocab_size > most) {
    return Error{Code::kInvalid, "a vocabulary of " + std::to_string(options.vocab_size) +
                                     " is outside " + std::to_string(least) + " (256 bytes and " +
                                     std::to_string(all.size()) + " special tokens) to " +
                                     std::to_string(most)};
  }
  return {};
}

}  // namespace

std::vector<std::string> DeepSeekSpecialTokens() {
  return {"<think>",
          "</think>",
          "<｜fim▁hole｜>",
          "<｜fim▁begin｜>",
          "<｜fim▁end｜>",
          "<｜User｜>",
          "<｜Assistant｜>",
          "<|EOT|>",
          "<｜tool▁calls▁begin｜>",
          "<｜tool▁calls▁end｜>",
          "<｜tool▁call▁begin｜>",
          "<｜tool▁call▁end｜>",
          "<｜tool▁outputs▁begin｜>",
          "<｜tool▁outputs▁end｜>",
          "<｜tool▁output▁begin｜>",
          "<｜tool▁output▁end｜>",
          "<｜tool▁sep｜>"};
}

struct BpeTrainer::Impl {
  explicit Impl(BpeTrainerOptions o) : options(std::move(o)), pool(options.threads) {}

  BpeTrainerOptions options;
  ThreadPool pool;
  internal::PreTokenizer pre;
  Counts counts;
  int64_t bytes = 0;
  double count_seconds = 0;

  void CountText(std::string_view text, LocalCounts* local) const;
  void Forget();
  Result<std::string> Json(const Merger& merger) const;
  std::string ConfigJson() const;
};

void BpeTrainer::Impl::CountText(std::string_view text, LocalCounts* local) const {
  internal::Pieces pieces;
  pre.Split(text, true, &pieces);
  for (const std::string_view piece : pieces.list) {
    if (piece.size() <= kMaxWordBytes) ++(*local)[piece];
  }
}

// Leaves the rarest words out until at most max_words are left.
void BpeTrainer::Impl::Forget() {
  for (int64_t rare = 1; static_cast<int64_t>(counts.size()) > options.max_words; rare *= 2) {
    std::erase_if(counts, [&](const auto& entry) { return entry.second <= rare; });
  }
}

Result<std::string> BpeTrainer::Impl::Json(const Merger& merger) const {
  TokenizerSpec spec;
  spec.pre = options.pattern == Pattern::kGpt2 ? "gpt-2" : "deepseek-v3";
  spec.tokens = {options.bos, options.eos, options.pad};
  spec.types = {3, 3, 3};  // control
  spec.bos = 0;
  spec.eos = 1;
  spec.pad = 2;
  spec.add_bos = options.add_bos;
  for (const std::string& text : merger.texts()) {
    spec.tokens.push_back(internal::ToStandIns(text));
    spec.types.push_back(1);
  }
  for (const std::string& name : options.special) {
    spec.tokens.push_back(name);
    const bool thought = name == "<think>" || name == "</think>";
    spec.types.push_back(thought ? 4 : 3);  // as DeepSeek-R1 has them: shown, not skipped
  }
  for (const auto& [left, right] : merger.merges()) {
    spec.merges.push_back(spec.tokens[static_cast<size_t>(left + kFirstByte)] + " " +
                          spec.tokens[static_cast<size_t>(right + kFirstByte)]);
  }
  json file = json::parse(TRY(ToTokenizerJson(spec)));
  json steps = json::array();
  for (const std::string& pattern : Patterns(options)) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(file["pre_tokenizer"]["pretokenizers"].back());  // bytes to stand-ins
  file["pre_tokenizer"]["pretokenizers"] = std::move(steps);
  return file.dump(1) + "\n";
}

std::string BpeTrainer::Impl::ConfigJson() const {
  const json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"bos_token", options.bos},
                       {"eos_token", options.eos},
                       {"pad_token", options.pad},
                       {"add_bos_token", options.add_bos},
                       {"add_eos_token", false},
                       {"clean_up_tokenization_spaces", false}};
  return config.dump(2) + "\n";
}

BpeTrainer::BpeTrainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BpeTrainer::BpeTrainer(BpeTrainer&&) noexcept = default;
BpeTrainer::~BpeTrainer() = default;

Result<BpeTrainer> BpeTrainer::Create(BpeTrainerOptions options) {
  TRY(CheckOptions(options));
  auto impl = std::make_unique<Impl>(std::move(options));
  for (const std::string& pattern : Patterns(impl->options)) {
    TRY(impl->pre.AddSplit(pattern, internal::Behavior::kIsolated, false));
  }
  return BpeTrainer(std::move(impl));
}

void BpeTrainer::Add(const std::vector<std::string_view>& texts) {
  const double start = Seconds();
  Impl& impl = *impl_;
  std::vector<std::string> repaired(texts.size());
  std::vector<LocalCounts> local(static_cast<size_t>(impl.pool.threads()));
  impl.pool.For(static_cast<int64_t>(texts.size()), [&](int64_t task, int worker) {
    const auto i = static_cast<size_t>(task);
    std::string_view text = texts[i];
    if (!internal::IsValidUtf8(text)) text = repaired[i] = internal::ReplaceInvalidUtf8(text);
    impl.CountText(text, &local[static_cast<size_t>(worker)]);
  });
  for (const std::string_view text : texts) impl.bytes += static_cast<int64_t>(text.size());
  for (const LocalCounts& part : local) {
    for (const auto& [word, count] : part) {
      const auto found = impl.counts.find(word);
      if (found != impl.counts.end()) {
        found->second += count;
      } else {
        impl.counts.emplace(word, count);
      }
    }
  }
  impl.Forget();
  impl.count_seconds += Seconds() - start;
}

Result<BpeTraining> BpeTrainer::Train() {
  const double start = Seconds();
  Impl& impl = *impl_;
  if (impl.counts.empty()) {
    return Error{Code::kInvalid, "no text to train a tokenizer on"};
  }
  const BpeTrainerOptions& options = impl.options;
  std::set<std::string> reserved(options.special.begin(), options.special.end());
  reserved.insert({options.bos, options.eos, options.pad});
  Merger merger(options, reserved);
  for (const auto& [word, count] : impl.counts) merger.AddWord(word, count);
  const auto fixed = static_cast<int64_t>(256 + reserved.size());
  merger.Run(options.vocab_size - fixed);
  BpeTraining out;
  out.tokenizer_json = TRY(impl.Json(merger));
  out.tokenizer_config_json = impl.ConfigJson();
  out.words = static_cast<int64_t>(impl.counts.size());
  out.bytes = impl.bytes;
  out.vocab_size = static_cast<int64_t>(merger.texts().size() + reserved.size());
  out.count_seconds = impl.count_seconds;
  out.merge_seconds = Seconds() - start;
  return out;
}

}  // namespace hadal
