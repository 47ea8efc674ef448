#include "tokenizer/pretokenizer.h"

#include <algorithm>
#include <iterator>

namespace hadal::internal {
namespace {

// The cased letters of the Unicode version that the deepseek-llm tokenizer was made with.
constexpr std::string_view kDeepSeekLetters =
    "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-"
    "\u02AF\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1"
    "\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-"
    "\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18"
    "-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4"
    "\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2"
    "-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-"
    "\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-"
    "\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-"
    "\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-"
    "\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-"
    "\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943]+";

struct Named {
  std::string_view name;
  std::vector<std::string_view> patterns;
  Sequence sequence = Sequence::kNone;
};

constexpr LineRules kLlmRules = {.symbols_are_punctuation = true, .cut_trailing_space = true};
constexpr LineRules kCoderRules = {.single_digits = true};

// Source: the tokenizer.json of each model family; names as GGUF files write them.
const std::vector<Named>& NamedSequences() {
  static const std::vector<Named> table = {
      {"gpt-2", {ScannerPattern(Scanner::kGpt2)}},
      {"llama-bpe", {ScannerPattern(Scanner::kLlama3)}},
      {"qwen2", {ScannerPattern(Scanner::kQwen2)}},
      {"smollm", {"\\p{N}", ScannerPattern(Scanner::kGpt2)}, Sequence::kSmolLm},
      {"deepseek-v3",
       {"\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
        ScannerPattern(Scanner::kDeepSeekV3)},
       Sequence::kDeepSeekV3},
      {"deepseek-llm",
       {"[\r\n]", kDeepSeekLetters,
        "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+",
        ScannerPattern(Scanner::kTrailingSpace), "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
        "\\p{N}+"},
       Sequence::kDeepSeekLlm},
      {"deepseek-coder",
       {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
        "\\p{N}"},
       Sequence::kDeepSeekCoder},
      {"default",
       {"[\\p{P}\\$\\+<=>\\^~\\|]+", ScannerPattern(Scanner::kGpt2), "\\p{N}+", "[0-9][0-9][0-9]"}},
  };
  return table;
}

struct Alias {
  std::string_view name, same_as;
};
constexpr Alias kAliases[] = {
    {"", "default"},
    {"gpt2", "gpt-2"},
    {"phi-2", "gpt-2"},
    {"mpt", "gpt-2"},
    {"olmo", "gpt-2"},
    {"roberta-bpe", "gpt-2"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"},
    {"pixtral", "llama-bpe"},
    {"dbrx", "llama-bpe"},
    {"smaug-bpe", "llama-bpe"},
    {"glm4", "llama-bpe"},
    {"chatglm-bpe", "llama-bpe"},
    {"qwen", "qwen2"},
    {"deepseek-r1-qwen", "qwen2"},
    {"stablelm2", "qwen2"},
    {"hunyuan", "qwen2"},
    {"megrez", "qwen2"},
    {"starcoder", "smollm"},
    {"refact", "smollm"},
    {"command-r", "smollm"},
    {"codeshell", "smollm"},
    {"exaone", "smollm"},
    {"deepseek-r1", "deepseek-v3"},
    {"deepseek3", "deepseek-v3"},
};

// Whole tokens win over their merges in these families.
constexpr std::string_view kIgnoreMerges[] = {"llama3",  "llama-v3", "llama-bpe",
                                              "falcon3", "pixtral",  "glm4"};

// Joins matches and the gaps between them as the behavior says; empty pieces vanish.
void EmitSplit(std::string_view text, const std::vector<Span>& matches, Behavior behavior,
               bool invert, std::vector<std::string_view>* out) {
  struct Part {
    size_t begin, end;
    bool match;
  };
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  size_t at = 0;
  for (const Span& m : matches) {
    if (at != m.first) parts.push_back({at, m.first, invert});
    parts.push_back({m.first, m.second, !invert});
    at = m.second;
  }
  if (at != text.size()) parts.push_back({at, text.size(), invert});

  std::vector<Part> joined;
  bool previous = false;
  switch (behavior) {
    case Behavior::kIsolated:
      joined = std::move(parts);
      break;
    case Behavior::kRemoved:
      std::copy_if(parts.begin(), parts.end(), std::back_inserter(joined),
                   [](const Part& p) { return !p.match; });
      break;
    case Behavior::kContiguous:
      for (const Part& p : parts) {
        if (!joined.empty() && joined.back().match == p.match) {
          joined.back().end = p.end;
        } else {
          joined.push_back(p);
        }
      }
      break;
    case Behavior::kMergedWithPrevious:
      for (const Part& p : parts) {
        if (p.match && !previous && !joined.empty()) {
          joined.back().end = p.end;
        } else {
          joined.push_back(p);
        }
        previous = p.match;
      }
      break;
    case Behavior::kMergedWithNext:
      for (size_t i = parts.size(); i-- > 0;) {
        const Part& p = parts[i];
        if (p.match && !previous && !joined.empty()) {
          joined.back().begin = p.begin;
        } else {
          joined.push_back(p);
        }
        previous = p.match;
      }
      std::reverse(joined.begin(), joined.end());
      break;
  }
  for (const Part& p : joined) {
    if (p.end > p.begin) out->push_back(text.substr(p.begin, p.end - p.begin));
  }
}

std::vector<Span> FindLiteral(std::string_view needle, std::string_view text) {
  std::vector<Span> spans;
  if (needle.empty()) return spans;
  for (size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size())) {
    spans.emplace_back(at, at + needle.size());
  }
  return spans;
}

std::vector<Span> FindPunctuation(std::string_view text) {
  std::vector<Span> spans;
  const uint8_t* classes = CharClasses();
  const char* end = text.data() + text.size();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = DecodeUtf8(text.data() + at, end);
    const bool ascii = c.code < 0x80 && (classes[c.code] & (kPunct | kSymbol));
    if (ascii || (classes[c.code] & kPunct)) spans.emplace_back(at, at + c.size);
    at += c.size;
  }
  return spans;
}

void SplitMetaspace(const PreTokenizer::Step& step, std::string_view text, bool at_start,
                    Pieces* pieces, std::vector<std::string_view>* out) {
  using Prepend = PreTokenizer::Step::Prepend;
  std::string changed;
  for (const char c : text) {
    if (c == ' ') {
      changed += step.literal;
    } else {
      changed += c;
    }
  }
  const bool prepend =
      step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && at_start);
  if (prepend && !changed.starts_with(step.literal)) changed.insert(0, step.literal);
  pieces->storage.push_back(std::move(changed));
  const std::string_view stored = pieces->storage.back();
  if (!step.split) {
    out->push_back(stored);
  } else {
    EmitSplit(stored, FindLiteral(step.literal, stored), Behavior::kMergedWithNext, false, out);
  }
}

void ApplyStep(const PreTokenizer::Step& step, std::string_view text, bool at_start, Pieces* pieces,
               std::vector<std::string_view>* out) {
  using Kind = PreTokenizer::Step::Kind;
  switch (step.kind) {
    case Kind::kScanner:
      return Scan(step.scanner, text, out);
    case Kind::kRun:
      return EmitSplit(text, FindRuns(step.run, text), step.behavior, step.invert, out);
    case Kind::kRegex:
      return EmitSplit(text, step.regex->FindAll(text), step.behavior, step.invert, out);
    case Kind::kLiteral:
      return EmitSplit(text, FindLiteral(step.literal, text), step.behavior, step.invert, out);
    case Kind::kPunctuation:
      return EmitSplit(text, FindPunctuation(text), step.behavior, step.invert, out);
    case Kind::kByteLevel:
      if (step.add_prefix_space && !text.starts_with(' ')) {
        std::string& stored = pieces->storage.emplace_back(1, ' ');
        stored += text;
        text = stored;
      }
      out->push_back(text);
      return;
    case Kind::kMetaspace:
      return SplitMetaspace(step, text, at_start, pieces, out);
  }
}

// Isolated runs go straight to the list of pieces: this is the hot path of several families.
void IsolateRuns(const RunPattern& run, std::string_view text, std::vector<Span>* spans,
                 std::vector<std::string_view>* out) {
  *spans = FindRuns(run, text);
  size_t at = 0;
  for (const Span& s : *spans) {
    if (at != s.first) out->push_back(text.substr(at, s.first - at));
    out->push_back(text.substr(s.first, s.second - s.first));
    at = s.second;
  }
  if (at != text.size()) out->push_back(text.substr(at));
}

}  // namespace

Result<PreTokenizer> PreTokenizer::FromName(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (name == alias.name) {
      name = alias.same_as;
      break;
    }
  }
  for (const Named& named : NamedSequences()) {
    if (named.name != name) continue;
    PreTokenizer out;
    for (const std::string_view pattern : named.patterns) {
      const Status status = out.AddSplit(pattern, Behavior::kIsolated, false);
      if (!status.ok()) return status.error();
    }
    out.byte_level_ = true;
    return out;
  }
  return Error{Code::kUnsupported,
               "pre-tokenizer \"" + std::string(name.substr(0, 60)) +
                   "\" is not known \u2014 known are gpt-2, llama-bpe, qwen2, smollm, "
                   "deepseek-llm, deepseek-coder, deepseek-v3 and default"};
}

bool PreTokenizer::MergesIgnored(std::string_view name) {
  return std::find(std::begin(kIgnoreMerges), std::end(kIgnoreMerges), name) !=
         std::end(kIgnoreMerges);
}

Status PreTokenizer::AddSplit(std::string_view pattern, Behavior behavior, bool invert) {
  Step step{.kind = Step::Kind::kRegex, .behavior = behavior, .invert = invert};
  patterns_.emplace_back(pattern);
  const std::optional<Scanner> scanner = ScannerOf(pattern);
  // The first three patterns match every character, so there are no gaps to remove.
  const bool total =
      scanner && *scanner != Scanner::kDeepSeekV3 && *scanner != Scanner::kTrailingSpace;
  if (scanner && ((behavior == Behavior::kIsolated && (!invert || total)) ||
                  (behavior == Behavior::kRemoved && invert && total))) {
    step.kind = Step::Kind::kScanner;
    step.scanner = *scanner;
  } else if (std::optional<RunPattern> run = ParseRunPattern(pattern)) {
    step.kind = Step::Kind::kRun;
    step.run = std::move(*run);
  } else {
    step.regex = TRY(Regex::Compile(pattern));
  }
  AddStep(std::move(step));
  return {};
}

void PreTokenizer::AddStep(Step step) {
  steps_.push_back(std::move(step));
  Recognise();
}

void PreTokenizer::Recognise() {
  sequence_ = Sequence::kNone;
  if (steps_.size() != patterns_.size()) return;
  for (const Step& step : steps_) {
    if (step.behavior != Behavior::kIsolated || step.invert) return;
  }
  for (const Named& named : NamedSequences()) {
    if (std::equal(named.patterns.begin(), named.patterns.end(), patterns_.begin(),
                   patterns_.end())) {
      sequence_ = named.sequence;
    }
  }
}

void PreTokenizer::AddLiteral(std::string_view text, Behavior behavior, bool invert) {
  patterns_.emplace_back("literal");
  AddStep({.kind = Step::Kind::kLiteral,
           .behavior = behavior,
           .invert = invert,
           .literal = std::string(text)});
}

void PreTokenizer::AddByteLevel(bool add_prefix_space, bool use_regex) {
  if (add_prefix_space) {
    AddStep({.kind = Step::Kind::kByteLevel, .add_prefix_space = true});
  }
  if (use_regex) {
    patterns_.emplace_back(ScannerPattern(Scanner::kGpt2));
    AddStep({.kind = Step::Kind::kScanner, .scanner = Scanner::kGpt2});
  }
  byte_level_ = true;
}

void PreTokenizer::Split(std::string_view text, bool at_start, Pieces* pieces) const {
  if (sequence_ == Sequence::kNone) return SplitInSteps(text, at_start, pieces);
  pieces->list.clear();
  pieces->list.reserve(text.size() / 4 + 4);
  if (sequence_ == Sequence::kSmolLm) return ScanSmolLm(text, &pieces->list);
  if (sequence_ == Sequence::kDeepSeekV3) return ScanDeepSeekV3(text, &pieces->list);
  Pieces some;
  const auto other = [&](std::string_view part, std::vector<std::string_view>* out) {
    SplitInSteps(part, /*at_start=*/false, &some);
    out->insert(out->end(), some.list.begin(), some.list.end());
  };
  const LineRules& rules = sequence_ == Sequence::kDeepSeekLlm ? kLlmRules : kCoderRules;
  ScanLines(rules, text, other, &pieces->list);
}

void PreTokenizer::SplitInSteps(std::string_view text, bool at_start, Pieces* pieces) const {
  pieces->list.clear();
  if (text.empty()) return;
  pieces->list.push_back(text);
  std::vector<std::string_view> next;
  std::vector<Span> spans;
  for (const Step& step : steps_) {
    next.clear();
    next.reserve(std::max(pieces->list.size(), text.size() / 8));
    bool first = at_start;
    for (const std::string_view piece : pieces->list) {
      if (step.kind == Step::Kind::kRun && step.behavior == Behavior::kIsolated && !step.invert) {
        IsolateRuns(step.run, piece, &spans, &next);
      } else {
        ApplyStep(step, piece, first, pieces, &next);
      }
      first = false;
    }
    pieces->list.swap(next);
  }
}

std::string PreTokenizer::NearestName() const {
  for (const Named& named : NamedSequences()) {
    if (std::equal(named.patterns.begin(), named.patterns.end(), patterns_.begin(),
                   patterns_.end())) {
      return std::string(named.name);
    }
  }
  return "default";
}

}  // namespace hadal::internal
