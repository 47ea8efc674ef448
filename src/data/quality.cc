#include <algorithm>
#include <bit>
#include <unordered_set>
#include <vector>

#include "data/clean.h"
#include "data/words.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using internal::Word;

struct Statistics {
  int64_t words = 0, word_characters = 0, words_with_letter = 0, stop_words = 0;
  int64_t symbols = 0, broken = 0, characters = 0;
  int64_t lines = 0, bullet_lines = 0, ellipsis_lines = 0, longest_line = 0, line_bytes = 0;
  int64_t repeated_lines = 0, repeated_bytes = 0;
};

bool IsStopWord(std::string_view word) {
  constexpr std::string_view kStop[] = {"the", "be", "to", "of", "and", "that", "have", "with"};
  if (word.size() > 4) return false;
  char lower[4];
  for (size_t i = 0; i < word.size(); ++i) lower[i] = static_cast<char>(word[i] | 32);
  return std::find(std::begin(kStop), std::end(kStop), std::string_view(lower, word.size())) !=
         std::end(kStop);
}

void CountWord(std::string_view word, Statistics* s) {
  ++s->words;
  int64_t characters = 0, letters = 0;
  for (const char c : word) {
    const auto byte = static_cast<uint8_t>(c);
    characters += (byte & 0xC0) != 0x80;
    letters += byte >= 0x80 || ((byte | 32) >= 'a' && (byte | 32) <= 'z');
    s->symbols += c == '#';
  }
  s->word_characters += characters;
  s->words_with_letter += letters > 0;
  s->stop_words += IsStopWord(word);
}

void CountLine(std::string_view line, Statistics* s) {
  const size_t first = line.find_first_not_of(" \t");
  if (first == std::string_view::npos) return;
  line.remove_prefix(first);
  ++s->lines;
  s->line_bytes += static_cast<int64_t>(line.size());
  s->longest_line = std::max(s->longest_line, static_cast<int64_t>(line.size()));
  s->bullet_lines += line.starts_with("- ") || line.starts_with("* ") || line.starts_with("•");
  s->ellipsis_lines += line.ends_with("...") || line.ends_with("…");
  for (size_t at = 0; at < line.size();) {
    const size_t stop = std::min(line.find_first_of(" \t", at), line.size());
    if (stop > at) CountWord(line.substr(at, stop - at), s);
    at = stop + 1;
  }
  for (size_t at = line.find("..."); at != std::string_view::npos; at = line.find("...", at + 3)) {
    ++s->symbols;
  }
}

Statistics Count(std::string_view text) {
  Statistics s;
  std::unordered_set<std::string_view> seen;
  for (size_t at = 0; at < text.size();) {
    const size_t stop = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, stop - at);
    const int64_t before = s.lines;
    CountLine(line, &s);
    // Short lines (braces, rules) repeat in good texts.
    if (s.lines > before && line.size() >= 8 && !seen.insert(line).second) {
      ++s.repeated_lines;
      s.repeated_bytes += static_cast<int64_t>(line.size());
    }
    at = stop + 1;
  }
  for (size_t at = text.find("\xEF\xBF\xBD"); at != std::string_view::npos;
       at = text.find("\xEF\xBF\xBD", at + 3)) {
    ++s.broken;
  }
  s.characters = std::count_if(text.begin(), text.end(),
                               [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
  return s;
}

// The share of the text's word bytes that the commonest group of n words covers.
double TopGroupShare(const std::vector<Word>& words, size_t n) {
  if (words.size() < n) return 0;
  const size_t slots = std::bit_ceil(2 * words.size());
  std::vector<std::pair<uint64_t, uint32_t>> table(slots);  // a group's hash, how often
  uint64_t total = 0;
  uint64_t most = 0;
  for (const Word& w : words) total += w.size;
  for (size_t i = 0; i + n <= words.size(); ++i) {
    uint64_t hash = 0;
    uint64_t bytes = 0;
    for (size_t k = 0; k < n; ++k) {
      hash = (hash + words[i + k].hash) * 0x9E3779B97F4A7C15ull;
      bytes += words[i + k].size;
    }
    hash = internal::Mix64(hash) | 1;
    size_t slot = hash & (slots - 1);
    while (table[slot].first != 0 && table[slot].first != hash) slot = (slot + 1) & (slots - 1);
    table[slot].first = hash;
    const uint64_t count = ++table[slot].second;
    if (count > 1) most = std::max(most, count * bytes);
  }
  return static_cast<double>(most) / static_cast<double>(total);
}

Quality JudgeRepetition(std::string_view text, const Statistics& s, const QualityOptions& options) {
  const auto share = [](int64_t part, int64_t all) {
    return static_cast<double>(part) / static_cast<double>(std::max<int64_t>(all, 1));
  };
  if (share(s.repeated_lines, s.lines) > options.max_repeated_lines ||
      share(s.repeated_bytes, s.line_bytes) > options.max_repeated_line_bytes) {
    return Quality::kRepeatedLines;
  }
  std::vector<Word> words;
  internal::SplitWords(text, &words);
  if (static_cast<int64_t>(words.size()) < options.min_group_words) return Quality::kKeep;
  if (TopGroupShare(words, 2) > options.max_top_2_gram ||
      TopGroupShare(words, 3) > options.max_top_3_gram ||
      TopGroupShare(words, 4) > options.max_top_4_gram) {
    return Quality::kRepeatedWords;
  }
  return Quality::kKeep;
}

Quality JudgeEnglish(const Statistics& s, const QualityOptions& options) {
  const auto words = static_cast<double>(s.words);
  const double mean = static_cast<double>(s.word_characters) / words;
  if (mean < options.min_mean_word || mean > options.max_mean_word) return Quality::kWordLength;
  if (static_cast<double>(s.words_with_letter) < options.min_words_with_letter * words) {
    return Quality::kFewLetters;
  }
  if (s.stop_words < options.min_stop_words) return Quality::kFewStopWords;
  return Quality::kKeep;
}

}  // namespace

std::string_view QualityName(Quality quality) {
  constexpr std::string_view kNames[kQualities] = {
      "kept",           "empty",          "too short",      "too long",       "broken text",
      "word length",    "symbols",        "bullet lines",   "ellipsis lines", "few letters",
      "few stop words", "repeated lines", "repeated words", "long lines",     "boilerplate"};
  return kNames[static_cast<size_t>(quality)];
}

Quality JudgeQuality(std::string_view text, TextKind kind, const QualityOptions& options) {
  if (text.find_first_not_of(" \t\n") == std::string_view::npos) return Quality::kEmpty;
  const Statistics s = Count(text);
  const bool chinese = kind == TextKind::kChinese;
  const int64_t size = chinese ? s.characters / 2 : s.words;
  if (size < options.min_words) return Quality::kTooShort;
  if (size > options.max_words) return Quality::kTooLong;
  const auto above = [](int64_t part, double share, int64_t all) {
    return static_cast<double>(part) > share * static_cast<double>(all);
  };
  if (above(s.broken, options.max_broken, s.characters)) return Quality::kBrokenText;
  if (kind == TextKind::kCode) {
    if (s.longest_line > options.max_code_line ||
        above(s.line_bytes, options.max_mean_code_line, s.lines)) {
      return Quality::kLongLines;
    }
    return Quality::kKeep;  // code repeats itself by nature
  }
  if (text.find("lorem ipsum") != std::string_view::npos ||
      text.find("Lorem ipsum") != std::string_view::npos) {
    return Quality::kBoilerplate;
  }
  if (above(s.symbols, options.max_symbols_per_word, size)) return Quality::kSymbols;
  if (above(s.bullet_lines, options.max_bullet_lines, s.lines)) return Quality::kBulletLines;
  if (above(s.ellipsis_lines, options.max_ellipsis_lines, s.lines)) return Quality::kEllipsisLines;
  if (kind == TextKind::kEnglish) {
    const Quality english = JudgeEnglish(s, options);
    if (english != Quality::kKeep) return english;
  }
  return JudgeRepetition(text, s, options);
}

}  // namespace hadal
