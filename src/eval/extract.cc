#include "eval/extract.h"

#include <algorithm>
#include <cctype>

#include "data/problems.h"

namespace hadal::eval {
namespace {

constexpr size_t kMostBytes = 8192;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

std::string Lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

// The end of a sentence: a full stop that no digit follows, or the line's end.
std::string_view UpToSentenceEnd(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') return text.substr(0, i);
    const bool last = i + 1 == text.size() || text[i + 1] == ' ' || text[i + 1] == '\n';
    if (text[i] == '.' && last) return text.substr(0, i);
  }
  return text;
}

Found Take(std::string_view answer, std::string trace) {
  Found found;
  answer = Trimmed(answer);
  found.found = !answer.empty() && answer.size() <= kMostBytes;
  if (found.found) found.answer = answer;
  found.trace = std::move(trace);
  return found;
}

Found LastNumber(std::string_view text) {
  size_t end = text.size();
  while (end > 0 && !IsDigit(text[end - 1])) --end;
  if (end == 0) return {false, {}, "no number"};
  size_t begin = end;
  while (begin > 0 &&
         (IsDigit(text[begin - 1]) || ((text[begin - 1] == ',' || text[begin - 1] == '.') &&
                                       begin > 1 && IsDigit(text[begin - 2])))) {
    --begin;
  }
  // A minus sign counts where it is no operator.
  const bool minus = begin > 0 && text[begin - 1] == '-';
  if (minus && (begin == 1 || text[begin - 2] == ' ' || text[begin - 2] == '$')) --begin;
  return Take(text.substr(begin, end - begin), "last number, at byte " + std::to_string(begin));
}

}  // namespace

std::string_view AfterThought(std::string_view text) {
  const size_t close = text.rfind("</think>");
  const size_t open = text.rfind("<think>");
  if (open != std::string_view::npos && (close == std::string_view::npos || open > close)) {
    return {};
  }
  return close == std::string_view::npos ? text : text.substr(close + 8);
}

Found FindAnswer(std::string_view text, bool strict, bool numbers) {
  const Extraction box = ExtractAnswer(text);
  if (box.found) return {true, box.answer, box.trace};
  if (strict) return {false, {}, box.trace};
  const std::string_view answer = AfterThought(text);
  if (const size_t at = answer.rfind("####"); at != std::string_view::npos) {
    const std::string_view rest = answer.substr(at + 4);
    return Take(rest.substr(0, rest.find('\n')), "after ####");
  }
  const std::string lower = Lower(answer);
  size_t best = std::string::npos, length = 0;
  for (const std::string_view phrase : {"answer is", "answer:", "答案是", "答案："}) {
    const size_t at = lower.rfind(phrase);
    if (at != std::string::npos && (best == std::string::npos || at > best)) {
      best = at;
      length = phrase.size();
    }
  }
  if (best != std::string::npos) {
    std::string_view rest = Trimmed(answer.substr(best + length));
    while (!rest.empty() && (rest.front() == ':' || rest.front() == '*')) rest.remove_prefix(1);
    Found found = Take(UpToSentenceEnd(Trimmed(rest)), "after 'answer is'");
    while (found.answer.ends_with('*')) found.answer.pop_back();
    if (numbers && found.found) {
      const Found number = LastNumber(found.answer);
      if (number.found) found.answer = number.answer;
    }
    if (found.found) return found;
  }
  if (numbers) {
    if (Found number = LastNumber(answer); number.found) return number;
  }
  return {false, {}, box.trace};
}

Found FindCode(std::string_view text, bool strict) {
  const std::string_view answer = AfterThought(text);
  Found found;
  bool python = false;
  for (size_t at = answer.find("```"); at != std::string_view::npos;) {
    const size_t line = answer.find('\n', at);
    if (line == std::string_view::npos) break;
    const std::string language = Lower(Trimmed(answer.substr(at + 3, line - at - 3)));
    const size_t close = answer.find("\n```", line);
    const bool closed = close != std::string_view::npos;
    const bool named = language == "python" || language == "py" || language == "python3";
    if ((named || !python) && (closed || !strict)) {
      const size_t end = closed ? close + 1 : answer.size();
      found = {true, std::string(answer.substr(line + 1, end - line - 1)),
               "block of code at byte " + std::to_string(at)};
      python = named;
    }
    if (!closed) break;
    at = answer.find("```", close + 4);
  }
  if (found.found || strict) {
    if (!found.found) found.trace = "no block of code";
    return found;
  }
  if (Trimmed(answer).empty()) return {false, {}, "no text after the thought"};
  return {true, std::string(answer), "all of the text"};
}

Found FindLetter(std::string_view text, int count, bool strict) {
  const Found found = FindAnswer(text, strict, false);
  const auto letter = [&](std::string_view answer) -> std::string {
    answer = Trimmed(answer);
    while (!answer.empty() && (answer.front() == '(' || answer.front() == '*')) {
      answer.remove_prefix(1);
    }
    if (answer.empty()) return {};
    const int index = answer.front() - 'A';
    const bool alone = answer.size() == 1 || !std::isalnum(static_cast<unsigned char>(answer[1]));
    return index >= 0 && index < count && alone ? std::string(1, answer.front()) : std::string();
  };
  if (found.found) {
    const std::string answer = letter(found.answer);
    return {!answer.empty(), answer, found.trace};
  }
  if (strict) return found;
  const std::string_view answer = AfterThought(text);
  const std::string whole = letter(Trimmed(answer));
  return {!whole.empty(), whole, whole.empty() ? "no letter" : "the first letter of the text"};
}

}  // namespace hadal::eval
