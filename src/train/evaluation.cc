#include "train/evaluation.h"

#include <fmt/format.h>

#include "train/internal_json.h"

namespace hadal {
namespace {

bool InsideCharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Both ends of a text of more than `bytes`; no character is halved.
std::string CutMiddle(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return std::string(text);
  size_t head = bytes / 2, tail = text.size() - bytes / 2;
  while (head > 0 && InsideCharacter(text[head])) --head;
  while (tail < text.size() && InsideCharacter(text[tail])) ++tail;
  return fmt::format("{} … {} bytes left out … {}", text.substr(0, head), tail - head,
                     text.substr(tail));
}

std::string CutCompletion(std::string_view text) {
  constexpr std::string_view kClose = "</think>";
  const size_t close = text.find(kClose);
  if (close == std::string_view::npos) return CutMiddle(text, kSampleTextBytes);
  return CutMiddle(text.substr(0, close), kSampleTextBytes) + std::string(kClose) +
         CutMiddle(text.substr(close + kClose.size()), kSampleTextBytes);
}

}  // namespace

std::string SampleLine(int64_t step, const EvaluatedSample& s) {
  constexpr size_t kFieldBytes = 200;
  using internal::Quoted;
  return fmt::format(
      R"({{"step":{},"task":{},"verdict":{},"extracted":{},"gold":{},"prompt":{},"completion":{}}})"
      "\n",
      step, Quoted(CutMiddle(s.task, kFieldBytes)), Quoted(s.verdict),
      Quoted(CutMiddle(s.extracted, kFieldBytes)), Quoted(CutMiddle(s.gold, kFieldBytes)),
      Quoted(CutMiddle(s.prompt, kSampleTextBytes)), Quoted(CutCompletion(s.completion)));
}

}  // namespace hadal
