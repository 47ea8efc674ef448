#include "data/problems.h"

#include <array>

#include "base/check.h"
#include "data/problems/family.h"
#include "data/problems/values.h"

namespace hadal {
namespace {

using problems::Draft;
using problems::FamilyEntry;

constexpr size_t kLongestAnswer = 8192;
constexpr std::string_view kThinkEnd = "</think>", kThink = "<think>", kBox = "\\boxed{";

const FamilyEntry& EntryOf(Family family) {
  using namespace problems;  // NOLINT: the table is the list of them
  static const std::array<const FamilyEntry*, kFamilies> kEntries = {
      &kChainFamily,    &kMixedFamily,     &kMultiplyFamily, &kModularFamily,
      &kDivisorsFamily, &kFactorFamily,    &kFractionFamily, &kBaseFamily,
      &kEquationFamily, &kCountdownFamily, &kSortFamily,     &kTextFamily,
      &kLogicFamily,    &kGridFamily,      &kPuzzleFamily,   &kProgramFamily};
  return *kEntries[static_cast<size_t>(family)];
}

// One key per (seed, family, level); the index is the stream, so items do not share draws.
uint64_t KeyOf(uint64_t seed, Family family, int level) {
  const auto words =
      Philox({static_cast<uint32_t>(family), static_cast<uint32_t>(level), 0x70726f62, 0}, seed);
  return uint64_t{words[0]} << 32 | words[1];
}

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;  // prompts and traces have no other control characters
    }
  }
  out += '"';
}

// The end of the box whose content begins at `first`, npos where its braces do not balance.
size_t BoxEnd(std::string_view text, size_t first) {
  int depth = 1;
  for (size_t i = first; i < text.size() && i - first <= kLongestAnswer; ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return i;
  }
  return std::string_view::npos;
}

}  // namespace

std::vector<Knob> KnobsOf(Family family, int level) {
  CHECK(level >= 1 && level <= kLevels);
  return EntryOf(family).knobs(level);
}

std::string_view FamilyName(Family family) { return EntryOf(family).name; }

std::vector<std::string> FamilyNames() {
  std::vector<std::string> names;
  for (int i = 0; i < kFamilies; ++i) names.emplace_back(FamilyName(static_cast<Family>(i)));
  return names;
}

std::optional<Family> FamilyFromName(std::string_view name) {
  for (int i = 0; i < kFamilies; ++i) {
    if (FamilyName(static_cast<Family>(i)) == name) return static_cast<Family>(i);
  }
  return std::nullopt;
}

// At levels 1 to 4 a worked way is at most so many bytes; a longer one is drawn again.
constexpr size_t kShortWay = 400;

Problem MakeProblem(uint64_t seed, uint64_t index, Family family, int level, Language language) {
  CHECK(level >= 1 && level <= kLevels);
  Draft draft{Rng(KeyOf(seed, family, level), index), level, language, {}, {}, {}, {}};
  EntryOf(family).make(draft);
  while (level <= 4 && draft.thought.str().size() > kShortWay) {
    for (problems::Text* text : {&draft.prompt, &draft.thought, &draft.gold, &draft.canonical})
      *text = {};
    EntryOf(family).make(draft);
  }
  Problem problem;
  problem.family = family;
  problem.level = level;
  problem.language = language;
  problem.seed = seed;
  problem.index = index;
  problem.prompt = std::move(draft.prompt.str());
  problem.thought = std::move(draft.thought.str());
  while (problem.thought.ends_with('\n') || problem.thought.ends_with(' ')) {
    problem.thought.pop_back();
  }
  problem.gold = std::move(draft.gold.str());
  if (!problem.thought.ends_with(problem.gold)) problem.thought += '\n' + problem.gold;
  problem.canonical = std::move(draft.canonical.str());
  problem.answer = draft.Say("The answer is ", "答案是 ");
  problem.answer += kBox;
  problem.answer += problem.gold;
  problem.answer += draft.Say("}.", "}。");
  return problem;
}

Verdict Verify(const Problem& problem, std::string_view answer) {
  if (static_cast<int>(problem.family) >= kFamilies) return Verdict::kError;
  if (answer.size() > kLongestAnswer) return Verdict::kWrong;
  return EntryOf(problem.family).verify(problem, answer);
}

Extraction ExtractAnswer(std::string_view text) {
  Extraction result;
  std::string_view where = "text without a thought";
  size_t offset = 0;
  if (const size_t end = text.rfind(kThinkEnd); end != std::string_view::npos) {
    offset = end + kThinkEnd.size();
    where = "text after </think>";
  }
  if (text.find(kThink, offset) != std::string_view::npos) {
    result.trace = "the thought has no end: <think> without </think>";
    return result;
  }
  const std::string_view rest = text.substr(offset);
  int boxes = 0, broken = 0;
  size_t place = 0;
  for (size_t at = rest.find(kBox); at != std::string_view::npos;) {
    const size_t first = at + kBox.size(), end = BoxEnd(rest, first);
    if (end == std::string_view::npos) {
      ++broken;
      at = rest.find(kBox, first);
      continue;
    }
    ++boxes;
    place = offset + at;
    result.answer = problems::Trim(rest.substr(first, end - first));
    at = rest.find(kBox, end);
  }
  result.found = boxes > 0;
  result.trace = result.found ? "box " + std::to_string(boxes) + " of " + std::to_string(boxes) +
                                    " at byte " + std::to_string(place)
                              : "no \\boxed{...}";
  result.trace += " in the ";
  result.trace += where;
  if (broken > 0) result.trace += ", " + std::to_string(broken) + " without an end";
  return result;
}

Verdict Grade(const Problem& problem, std::string_view text) {
  const Extraction extraction = ExtractAnswer(text);
  // A damaged problem is an error whatever the text.
  const Verdict verdict = Verify(problem, extraction.answer);
  if (verdict == Verdict::kError) return verdict;
  return extraction.found ? verdict : Verdict::kWrong;
}

std::string DocumentText(const Problem& problem) {
  return problem.prompt + '\n' + problem.thought + '\n' + problem.answer + '\n';
}

std::string ConversationJson(const Problem& problem) {
  std::string out = "{\"messages\":[{\"role\":\"user\",\"content\":";
  AppendJsonString(out, problem.prompt);
  out += "},{\"role\":\"assistant\",\"reasoning_content\":";
  AppendJsonString(out, problem.thought);
  out += ",\"content\":";
  AppendJsonString(out, problem.answer);
  out += "}]}";
  return out;
}

Split SplitOf(std::string_view canonical) {
  // FNV-1a, then the finalizer of SplitMix64, so that every byte moves the last digits.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : canonical) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
  hash ^= hash >> 31;
  const uint64_t part = hash % 10;
  return part == 0 ? Split::kTest : part == 1 ? Split::kValidation : Split::kTrain;
}

Problem ProblemStream::Next() {
  for (;;) {
    Problem problem =
        MakeProblem(options_.seed, index_++, options_.family, options_.level, options_.language);
    if (SplitOf(problem.canonical) == options_.split) return problem;
  }
}

}  // namespace hadal
