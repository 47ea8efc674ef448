// Ordering numbers and words; working on letters.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/steps.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

// ---- sort ----

struct SortLevel {
  int length;
  int64_t largest;
  int kinds;  // 2: up and down, 3: and the k-th smallest, 4: and the median
  int decimals, words;
};
constexpr SortLevel kSortLevels[kLevels] = {
    {3, 30, 2, 0, 0},  {4, 50, 3, 0, 0},   {5, 99, 4, 0, 0},    {6, 99, 4, 0, 0},
    {8, 999, 4, 1, 1}, {12, 999, 4, 1, 1}, {24, 9999, 4, 2, 1}, {40, 99999, 4, 2, 1}};

std::vector<Knob> SortKnobs(int level) {
  const auto& l = kSortLevels[level - 1];
  return {{"length", l.length},
          {"largest", l.largest},
          {"kinds", l.kinds},
          {"decimals", l.decimals},
          {"words", l.words}};
}

struct Entry {
  int64_t value = 0;
  std::string text;
  friend bool operator<(const Entry& a, const Entry& b) {
    return a.value != b.value ? a.value < b.value : a.text < b.text;
  }
};

Entry PickEntry(Draft& d, const SortLevel& l, bool words, int decimals) {
  Entry entry;
  if (words) {
    const int64_t size = d.Pick(3, 6);
    for (int64_t i = 0; i < size; ++i) entry.text += static_cast<char>('a' + d.Pick(0, 25));
    return entry;
  }
  entry.value = d.Pick(1, l.largest);
  Text text;
  const int64_t scale = kPowersOf10[decimals];
  text << entry.value / scale;
  if (decimals > 0) {
    text << '.';
    for (int64_t unit = scale / 10; unit > 0; unit /= 10) text << entry.value / unit % 10;
  }
  entry.text = std::move(text.str());
  return entry;
}

void WriteEntries(Text& text, const std::vector<Entry>& entries, std::string_view between) {
  for (size_t i = 0; i < entries.size(); ++i) text << (i > 0 ? between : "") << entries[i].text;
}

// One entry after the other into its place.
void WriteInsertion(Text& text, const std::vector<Entry>& entries, bool down) {
  std::vector<Entry> sorted;
  for (const auto& entry : entries) {
    auto at = std::find_if(sorted.begin(), sorted.end(),
                           [&](const Entry& e) { return down ? e < entry : entry < e; });
    sorted.insert(at, entry);
    text << entry.text << ": ";
    WriteEntries(text, sorted, " ");
    text.EndLine();
  }
}

// Runs of one, two, four, ... merged in pairs, one round a line.
void WriteMerges(Text& text, std::vector<Entry> entries, bool down) {
  for (size_t run = 1; run < entries.size(); run *= 2) {
    for (size_t first = 0; first < entries.size(); first += 2 * run) {
      const size_t last = std::min(first + 2 * run, entries.size());
      std::sort(entries.begin() + static_cast<ptrdiff_t>(first),
                entries.begin() + static_cast<ptrdiff_t>(last),
                [down](const Entry& a, const Entry& b) { return down ? b < a : a < b; });
      if (first > 0) text << "| ";
      for (size_t i = first; i < last; ++i) text << entries[i].text << ' ';
    }
    text.EndLine();
  }
}

void AskSort(Draft& d, size_t kind, size_t which) {
  switch (kind) {
    case 0:
      d.prompt << d.Say("Sort from small to large: ", "从小到大排列: ");
      break;
    case 1:
      d.prompt << d.Say("Sort from large to small: ", "从大到小排列: ");
      break;
    case 2:
      d.prompt << d.Say("Sorted from small to large, which comes at place ", "从小到大排列, 求第 ")
               << which << d.Say(": ", " 个: ");
      break;
    default:
      d.prompt << d.Say("Find the median of ", "求中位数: ");
  }
}

void MakeSort(Draft& d) {
  const auto& l = kSortLevels[d.level - 1];
  const bool words = l.words && d.Chance(40);
  const int decimals = words || !l.decimals || d.Chance(50) ? 0 : l.decimals;
  const auto kind = static_cast<size_t>(d.Pick(0, l.kinds - 1));
  size_t length = static_cast<size_t>(l.length);
  if (kind == 3 && length % 2 == 0) --length;
  std::vector<Entry> entries;
  for (size_t i = 0; i < length; ++i) entries.push_back(PickEntry(d, l, words, decimals));
  const size_t which = kind == 3 ? length / 2 + 1 : static_cast<size_t>(d.Pick(1, l.length));
  AskSort(d, kind, which);
  WriteEntries(d.prompt, entries, ", ");
  d.prompt << d.Say(".", "。");
  if (length <= 8) {
    WriteInsertion(d.thought, entries, kind == 1);
  } else {
    WriteMerges(d.thought, entries, kind == 1);
  }
  std::stable_sort(entries.begin(), entries.end());
  constexpr std::array<std::string_view, 3> kNames = {"up", "down", "place"};
  d.canonical << kNames[std::min<size_t>(kind, 2)] << ' ' << (kind >= 2 ? which : 0) << ' ';
  WriteEntries(d.canonical, entries, " ");
  if (kind >= 2) {
    for (size_t i = 0; i < which; ++i) {
      d.thought << i + 1 << ": " << entries[i].text;
      d.thought.EndLine();
    }
    d.gold << entries[which - 1].text;
  } else {
    if (kind == 1) std::reverse(entries.begin(), entries.end());
    WriteEntries(d.gold, entries, ", ");
  }
}

bool SameEntry(std::string_view answer, std::string_view wanted) {
  const auto value = ParseDecimal(wanted);
  return value ? ParseDecimal(answer) == value : answer == wanted;
}

Verdict VerifySort(const Problem& problem, std::string_view answer) {
  Fields fields(problem.canonical);
  const std::string_view kind = fields.Word();
  const int64_t which = fields.Integer(0, 4096);
  std::vector<std::string_view> sorted;
  while (fields.ok() && !fields.AtEnd() && sorted.size() <= 4096) sorted.push_back(fields.Word());
  if (!fields.ok() || static_cast<size_t>(which) > sorted.size()) return Verdict::kError;
  if (kind == "place") {
    if (which < 1) return Verdict::kError;
    sorted = {sorted[static_cast<size_t>(which) - 1]};
  } else if (kind == "down") {
    std::reverse(sorted.begin(), sorted.end());
  } else if (kind != "up") {
    return Verdict::kError;
  }
  const auto parts = SplitCommas(answer);
  return std::equal(parts.begin(), parts.end(), sorted.begin(), sorted.end(), SameEntry)
             ? Verdict::kRight
             : Verdict::kWrong;
}

// ---- text ----

struct TextLevel {
  int length, rotation, rules;
  int kinds;  // 2: reverse and count, 3: and shift, 4: and rewrite
};
constexpr TextLevel kTextLevels[kLevels] = {{4, 0, 0, 2},   {5, 3, 0, 3},  {6, 5, 2, 4},
                                            {7, 9, 2, 4},   {9, 25, 3, 4}, {12, 25, 4, 4},
                                            {16, 25, 6, 4}, {20, 25, 8, 4}};
constexpr int kLargestRewrite = 60;

std::vector<Knob> TextKnobs(int level) {
  const auto& l = kTextLevels[level - 1];
  return {{"length", l.length}, {"rotation", l.rotation}, {"rules", l.rules}, {"kinds", l.kinds}};
}

// Small vocabularies see letters only when spaces part them; from level 5 on they stand together.
std::string Shown(const Draft& d, const std::string& letters) {
  if (d.level > 4) return letters;
  std::string spaced;
  for (const char c : letters) {
    if (!spaced.empty()) spaced += ' ';
    spaced += c;
  }
  return spaced;
}

std::string PickLetters(Draft& d, int64_t length, int alphabet) {
  std::string letters;
  for (int64_t i = 0; i < length; ++i) letters += static_cast<char>('a' + d.Pick(0, alphabet - 1));
  return letters;
}

void MakeReverse(Draft& d, int length) {
  const std::string letters = PickLetters(d, length, 26);
  d.canonical << "reverse " << letters;
  d.prompt << d.Say("Write backwards: ", "倒着写: ") << Shown(d, letters);
  for (size_t i = 0; i < letters.size(); ++i) d.thought << i + 1 << ' ' << letters[i] << ' ';
  d.thought.EndLine();
  for (size_t i = letters.size(); i-- > 0;) d.thought << i + 1 << ' ' << letters[i] << ' ';
  d.thought.EndLine();
  d.gold << Shown(d, std::string(letters.rbegin(), letters.rend()));
}

void MakeCount(Draft& d, int length) {
  const int64_t size = d.Pick(length, 2 * length);
  const std::string letters = PickLetters(d, size, 3);
  const char letter = static_cast<char>('a' + d.Pick(0, 2));
  d.canonical << "count " << letter << ' ' << letters;
  d.prompt << d.Say("How many ", "有几个 ") << letter << d.Say(" are in: ", ": ")
           << Shown(d, letters);
  int count = 0;
  for (const char c : letters) {
    count += c == letter;
    d.thought << c << ' ' << letter << (c == letter ? " yes " : " no ") << count << ' ';
  }
  d.thought.EndLine();
  d.gold << count;
}

void MakeShift(Draft& d, int length, int rotation) {
  const std::string letters = PickLetters(d, length, 26);
  const int shift = static_cast<int>(d.Pick(1, rotation));
  d.canonical << "shift " << shift << ' ' << letters;
  d.prompt << d.Say("Shift each letter forward by ", "每个字母向后移 ") << shift
           << d.Say(" (a follows z): ", " 位 (z 之后是 a): ") << Shown(d, letters);
  std::string shifted;
  for (const char c : letters) {
    const int from = c - 'a', to = from + shift;
    d.thought << c << ' ' << from << '+' << shift << '=' << to << ' ';
    if (to >= 26) d.thought << to << "-26=" << to - 26 << ' ';
    shifted += static_cast<char>('a' + to % 26);
    d.thought << shifted.back();
    d.thought.EndLine();
  }
  d.gold << Shown(d, shifted);
}

struct Rule {
  std::string from, to;
};

// Rules make the string shorter, or earlier in the dictionary, so rewriting ends.
std::vector<Rule> PickRules(Draft& d, int count) {
  std::vector<Rule> rules;
  while (static_cast<int>(rules.size()) < count) {
    Rule rule{PickLetters(d, 2, 4), PickLetters(d, d.Pick(1, 2), 4)};
    const bool ends = rule.to.size() < 2 || rule.to < rule.from;
    const bool fresh = std::none_of(rules.begin(), rules.end(),
                                    [&](const Rule& r) { return r.from == rule.from; });
    if (ends && fresh) rules.push_back(std::move(rule));
  }
  return rules;
}

// The first rule that occurs, at its leftmost place; false when none does.
bool Rewrite(const std::vector<Rule>& rules, std::string& letters, size_t& used) {
  for (used = 0; used < rules.size(); ++used) {
    const size_t at = letters.find(rules[used].from);
    if (at == std::string::npos) continue;
    letters.replace(at, rules[used].from.size(), rules[used].to);
    return true;
  }
  return false;
}

void MakeRewrite(Draft& d, const TextLevel& l) {
  std::vector<Rule> rules;
  std::string letters;
  std::vector<std::pair<size_t, std::string>> states;
  do {
    rules = PickRules(d, l.rules);
    letters = PickLetters(d, l.length, 4);
    states.clear();
    std::string state = letters;
    for (size_t used = 0; states.size() <= kLargestRewrite && Rewrite(rules, state, used);) {
      states.emplace_back(used, state);
    }
  } while (states.empty() || states.size() > kLargestRewrite ||
           (d.level <= 4 && states.size() > 6));
  d.prompt << d.Say(
      "Apply the first rule that fits, at its leftmost place, until none fits. Rules: ",
      "反复使用第一条适用的规则, 用在最左边的位置, 直到没有规则适用。规则: ");
  for (size_t i = 0; i < rules.size(); ++i) {
    d.prompt << (i > 0 ? "; " : "") << i + 1 << ' ' << Shown(d, rules[i].from) << " -> "
             << Shown(d, rules[i].to);
    d.canonical << (i > 0 ? "," : "rewrite ") << rules[i].from << '>' << rules[i].to;
  }
  d.prompt << d.Say(". String: ", "。字符串: ") << Shown(d, letters);
  d.canonical << ' ' << letters;
  for (const auto& [used, state] : states) {
    d.thought << used + 1 << ": " << Shown(d, state);
    d.thought.EndLine();
  }
  d.gold << Shown(d, states.back().second);
}

void MakeText(Draft& d) {
  const auto& l = kTextLevels[d.level - 1];
  switch (d.Pick(1, l.kinds)) {
    case 1:
      return MakeReverse(d, l.length);
    case 2:
      return MakeCount(d, l.length);
    case 3:
      return MakeShift(d, l.length, l.rotation);
    default:
      return MakeRewrite(d, l);
  }
}

Verdict VerifyText(const Problem& problem, std::string_view answer) {
  if (problem.gold.empty()) return Verdict::kError;
  return Trim(answer) == problem.gold ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kSortFamily = {"sort", MakeSort, VerifySort, SortKnobs};
const FamilyEntry kTextFamily = {"text", MakeText, VerifyText, TextKnobs};

}  // namespace hadal::problems
