// Text cleaning: one normal form, and rules that drop pages nobody would learn from.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal {

struct NormaliseOptions {
  bool nfc = true;         // Unicode normal form C
  bool line_ends = true;   // \r\n, \r, U+2028, U+2029 and U+0085 become \n
  bool controls = true;    // C0 (but \t \n), DEL, C1, byte order marks, U+FFFE/F leave
  bool blank_runs = true;  // trailing blanks of lines leave; three or more line ends become two
  bool trim = true;        // line ends and blanks around the whole text leave (but not the first
                           // line's indentation)
};

// Broken UTF-8 becomes U+FFFD whatever the options. Normalise(Normalise(t)) == Normalise(t).
std::string Normalise(std::string_view text, const NormaliseOptions& options = {});

// What most of a text is written in. Code is told by its line shapes and marks, not by a name.
enum class TextKind : uint8_t { kEnglish, kChinese, kCode, kOther };
inline constexpr int kTextKinds = 4;
std::string_view TextKindName(TextKind kind);  // en, zh, code, other
TextKind EstimateTextKind(std::string_view text);

// Why a text was dropped; kKeep: it was not.
enum class Quality : uint8_t {
  kKeep,
  kEmpty,
  kTooShort,
  kTooLong,
  kBrokenText,  // U+FFFD
  kWordLength,
  kSymbols,  // # and ellipses
  kBulletLines,
  kEllipsisLines,
  kFewLetters,
  kFewStopWords,
  kRepeatedLines,
  kRepeatedWords,  // one word group makes up too much
  kLongLines,      // code: machine-made or data
  kBoilerplate,    // lorem ipsum
};
inline constexpr int kQualities = 15;
std::string_view QualityName(Quality quality);

// Thresholds of Gopher (arXiv:2112.11446, table A1) and C4 (arXiv:1910.10683), shares of 1. Rules
// on words and stop words concern English; Chinese is judged by length, letters, repetition; code
// by length and lines.
struct QualityOptions {
  int64_t min_words = 20;  // Gopher: 50; Chinese characters count as half a word
  int64_t max_words = 1'000'000;
  double max_broken = 0.001;
  double min_mean_word = 3, max_mean_word = 10;
  double max_symbols_per_word = 0.1;
  double max_bullet_lines = 0.9;
  double max_ellipsis_lines = 0.3;
  double min_words_with_letter = 0.7;  // Gopher: 0.8
  int64_t min_stop_words = 2;
  double max_repeated_lines = 0.3;       // share of lines that were there before
  double max_repeated_line_bytes = 0.2;  // the same by bytes
  int64_t min_group_words = 200;         // shorter texts repeat a group by chance
  double max_top_2_gram = 0.20, max_top_3_gram = 0.18, max_top_4_gram = 0.16;  // share of bytes
  int64_t max_code_line = 1000;
  double max_mean_code_line = 100;
};

// text: normalised. Linear in its length.
Quality JudgeQuality(std::string_view text, TextKind kind, const QualityOptions& options = {});

}  // namespace hadal
