// Methods of strings, lists and dicts, as far as the sandbox shows them.
#include <algorithm>
#include <array>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

constexpr std::string_view kStringMethods[] = {
    "capitalize",   "casefold",     "center",  "count",     "endswith",   "expandtabs",
    "find",         "format",       "index",   "isalnum",   "isalpha",    "isascii",
    "isdecimal",    "isdigit",      "islower", "isnumeric", "isspace",    "istitle",
    "isupper",      "join",         "ljust",   "lower",     "lstrip",     "partition",
    "removeprefix", "removesuffix", "replace", "rfind",     "rindex",     "rjust",
    "rpartition",   "rsplit",       "rstrip",  "split",     "splitlines", "startswith",
    "strip",        "swapcase",     "title",   "upper",     "zfill",      "isidentifier"};
constexpr std::string_view kListMethods[] = {"copy", "count", "index"};
constexpr std::string_view kTupleMethods[] = {"count", "index"};
constexpr std::string_view kDictMethods[] = {"copy", "get", "items", "keys", "values"};
// The immutable sandbox hides what would change a list or dict.
constexpr std::string_view kListRefused[] = {"append", "clear", "pop",    "reverse",
                                             "insert", "sort",  "extend", "remove"};
constexpr std::string_view kDictRefused[] = {"clear", "pop", "popitem", "setdefault", "update"};

template <typename Names>
bool Has(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Error NeedsText(std::string_view name, const Value& value) {
  return TypeError(std::string(name) + "() takes a string, not " + TypeName(value));
}

// The text of `self` from the optional arguments start and end (code points).
Result<Value> Window(Budget* budget, const Value& self, const Value& start, const Value& end) {
  const Value bounds[3] = {start.is_missing() ? Value::None() : start,
                           end.is_missing() ? Value::None() : end, Value::None()};
  if (bounds[0].is(Kind::kNone) && bounds[1].is(Kind::kNone)) return self;
  return SliceOf(budget, self, bounds);
}

Result<Value> Affix(Interpreter* in, const Value& self, std::string_view name, const Args& args) {
  const auto bound = TRY(Bind(name, args, {"prefix", "start", "end"}, 1));
  const Value window = TRY(Window(in->budget(), self, bound[1], bound[2]));
  std::vector<Value> choices = {bound[0]};
  if (bound[0].is(Kind::kTuple)) choices = bound[0].as<ListObject>().items;
  for (const Value& choice : choices) {
    if (!choice.is_string()) return NeedsText(name, choice);
    const bool match = name == "startswith" ? window.text().starts_with(choice.text())
                                            : window.text().ends_with(choice.text());
    if (match) return Value::Bool(true);
  }
  return Value::Bool(false);
}

Result<Value> FindText(Interpreter* in, const Value& self, std::string_view name,
                       const Args& args) {
  const auto bound = TRY(Bind(name, args, {"sub", "start", "end"}, 1));
  if (!bound[0].is_string()) return NeedsText(name, bound[0]);
  const Value window = TRY(Window(in->budget(), self, bound[1], bound[2]));
  const std::string_view text = window.text(), what = bound[0].text();
  TRY(in->budget()->Work(text.size() * 4));
  if (name == "count") {
    int64_t count = what.empty() ? static_cast<int64_t>(CodePoints(text)) + 1 : 0;
    for (size_t at = 0; !what.empty() && (at = text.find(what, at)) != text.npos;
         at += what.size()) {
      ++count;
    }
    return Value::Int(count);
  }
  const bool backwards = name[0] == 'r';
  const size_t at = backwards ? text.rfind(what) : text.find(what);
  if (at == text.npos) {
    if (name.ends_with("index")) return TypeError("substring not found");
    return Value::Int(-1);
  }
  const size_t offset = window.begin() - self.begin();
  return Value::Int(static_cast<int64_t>(CodePoints(self.text().substr(0, offset + at))));
}

Result<std::vector<Value>> SplitSpace(Budget* budget, const Value& self, int64_t limit,
                                      bool right) {
  std::vector<Value> out;
  const std::string_view text = self.text();
  size_t begin = 0, end = text.size();
  while (true) {
    TRY(budget->Step());
    begin += SpaceAtStart(text.substr(begin, end - begin));
    end -= SpaceAtEnd(text.substr(begin, end - begin));
    if (begin >= end) break;
    if (limit >= 0 && static_cast<int64_t>(out.size()) >= limit) {
      // The rest keeps the white space at its far end.
      const size_t from = right ? 0 : begin, to = right ? end : text.size();
      out.push_back(self.Part(from, to - from));
      break;
    }
    size_t cut = right ? end : begin;
    if (right) {
      while (cut > begin && SpaceAtEnd(text.substr(begin, cut - begin)) == 0) {
        --cut;
        while (cut > begin && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
      }
      out.push_back(self.Part(cut, end - cut));
      end = cut;
    } else {
      for (size_t next = cut; cut < end; cut = next) {
        if (IsSpace(NextCodePoint(text, &next))) break;
      }
      out.push_back(self.Part(begin, cut - begin));
      begin = cut;
    }
  }
  if (right) std::reverse(out.begin(), out.end());
  return out;
}

Result<Value> Split(Interpreter* in, const Value& self, std::string_view name, const Args& args) {
  const auto bound = TRY(Bind(name, args, {"sep", "maxsplit"}));
  if (!bound[1].is_missing() && !bound[1].is_integer())
    return TypeError("maxsplit must be an integer");
  const int64_t limit = bound[1].is_missing() ? -1 : bound[1].integer();
  const bool right = name == "rsplit";
  const std::string_view text = self.text();
  TRY(in->budget()->Work(text.size()));
  if (bound[0].is_missing() || bound[0].is(Kind::kNone)) {
    return MakeList(in->budget(), TRY(SplitSpace(in->budget(), self, limit, right)));
  }
  if (!bound[0].is_string()) return NeedsText(name, bound[0]);
  const std::string_view separator = bound[0].text();
  if (separator.empty()) return TypeError("empty separator");
  std::vector<Value> out;
  size_t begin = 0, end = text.size();
  while (limit < 0 || static_cast<int64_t>(out.size()) < limit) {
    const std::string_view rest = text.substr(begin, end - begin);
    const size_t at = right ? rest.rfind(separator) : rest.find(separator);
    if (at == rest.npos) break;
    TRY(in->budget()->CheckElements(out.size() + 1));
    if (right) {
      out.push_back(self.Part(begin + at + separator.size(), end - begin - at - separator.size()));
      end = begin + at;
    } else {
      out.push_back(self.Part(begin, at));
      begin += at + separator.size();
    }
  }
  out.push_back(self.Part(begin, end - begin));
  if (right) std::reverse(out.begin(), out.end());
  return MakeList(in->budget(), std::move(out));
}

Result<Value> Partition(Interpreter* in, const Value& self, std::string_view name,
                        const Args& args) {
  const auto bound = TRY(Bind(name, args, {"sep"}, 1));
  if (!bound[0].is_string()) return NeedsText(name, bound[0]);
  if (bound[0].text().empty()) return TypeError("empty separator");
  const std::string_view text = self.text();
  const bool right = name == "rpartition";
  const size_t at = right ? text.rfind(bound[0].text()) : text.find(bound[0].text());
  const Value empty = self.Part(0, 0);
  std::vector<Value> out;
  if (at == text.npos) {
    out = right ? std::vector<Value>{empty, empty, self} : std::vector<Value>{self, empty, empty};
  } else {
    const size_t after = at + bound[0].text().size();
    out = {self.Part(0, at), bound[0], self.Part(after, text.size() - after)};
  }
  return MakeList(in->budget(), std::move(out), Kind::kTuple);
}

Result<Value> RemoveAffix(const Value& self, std::string_view name, const Args& args) {
  const auto bound = TRY(Bind(name, args, {"affix"}, 1));
  if (!bound[0].is_string()) return NeedsText(name, bound[0]);
  const std::string_view text = self.text(), affix = bound[0].text();
  if (name == "removeprefix") {
    if (!text.starts_with(affix)) return self;
    return self.Part(affix.size(), text.size() - affix.size());
  }
  if (!text.ends_with(affix)) return self;
  return self.Part(0, text.size() - affix.size());
}

// center, ljust, rjust, zfill
Result<Value> Pad(Interpreter* in, const Value& self, std::string_view name, const Args& args) {
  const auto bound = TRY(Bind(name, args, {"width", "fillchar"}, 1));
  if (!bound[0].is_integer()) return TypeError(std::string(name) + "() takes an integer");
  const Value fill =
      !bound[1].is_missing() ? bound[1] : ConstantString(name == "zfill" ? "0" : " ");
  if (!fill.is_string() || CodePoints(fill.text()) != 1) {
    return TypeError("the fill character must be exactly one character long");
  }
  const int64_t length = static_cast<int64_t>(CodePoints(self.text()));
  const int64_t missing = bound[0].integer() - length;
  if (missing <= 0) return self;
  TRY(in->budget()->CheckBytes(static_cast<uint64_t>(missing)));
  TRY(in->budget()->Work(static_cast<uint64_t>(missing)));
  int64_t left = name == "rjust" || name == "zfill" ? missing : 0;
  if (name == "center") left = missing / 2 + (missing & bound[0].integer() & 1);
  Builder builder(in->budget());
  size_t sign = 0;
  if (name == "zfill" && !self.text().empty() && (self.text()[0] == '+' || self.text()[0] == '-')) {
    builder.Add(self.Part(0, 1));
    sign = 1;
  }
  for (int64_t i = 0; i < left; ++i) builder.Add(fill);
  builder.Add(self.Part(sign, self.text().size() - sign));
  for (int64_t i = left; i < missing; ++i) builder.Add(fill);
  return builder.Finish(self.markup());
}

Result<Value> ExpandTabs(Interpreter* in, const Value& self, const Args& args) {
  const auto bound = TRY(Bind("expandtabs", args, {"tabsize"}));
  if (!bound[0].is_missing() && !bound[0].is_integer())
    return TypeError("tabsize must be an integer");
  const int64_t size = bound[0].is_missing() ? 8 : bound[0].integer();
  if (size > 1024) return Error{Code::kLimit, "a tab of more than 1024 columns"};
  Builder builder(in->budget());
  int64_t column = 0;
  const std::string_view text = self.text();
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCodePoint(text, &at);
    if (c == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      builder.Add(std::string(static_cast<size_t>(spaces), ' '), self.trusted());
      column += spaces;
      continue;
    }
    builder.Add(self.Part(begin, at - begin));
    column = c == '\n' || c == '\r' ? 0 : column + 1;
  }
  return builder.Finish(self.markup());
}

Result<Value> ChangedCase(Interpreter* in, const Value& self, std::string_view name) {
  const Case how = name == "upper"        ? Case::kUpper
                   : name == "title"      ? Case::kTitle
                   : name == "capitalize" ? Case::kCapital
                   : name == "swapcase"   ? Case::kSwap
                                          : Case::kLower;
  TRY(in->budget()->Work(self.text().size() * 4));
  Value out = TRY(MakeString(in->budget(), ChangeCase(self.text(), how), self.trusted()));
  out.set_markup(self.markup());
  return out;
}

Result<Value> CallStringMethod(Interpreter* in, const Value& self, std::string_view name,
                               const Args& args) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const auto bound = TRY(Bind(name, args, {"chars"}));
    TRY(in->budget()->Work(self.text().size()));
    return StripText(self, bound[0], name != "rstrip", name != "lstrip");
  }
  if (name == "split" || name == "rsplit") return Split(in, self, name, args);
  if (name == "startswith" || name == "endswith") return Affix(in, self, name, args);
  if (name == "replace") {
    const auto bound = TRY(Bind(name, args, {"old", "new", "count"}, 2));
    for (const Value& v : {bound[0], bound[1]}) {
      if (!v.is_string()) return NeedsText(name, v);
    }
    if (!bound[2].is_missing() && !bound[2].is_integer())
      return TypeError("count must be an integer");
    return ReplaceText(in->budget(), self, bound[0], bound[1],
                       bound[2].is_missing() ? -1 : bound[2].integer());
  }
  if (name == "join") {
    const auto bound = TRY(Bind(name, args, {"iterable"}, 1));
    const std::vector<Value> items = TRY(in->Iterate(bound[0]));
    for (const Value& item : items) {
      if (!item.is_string()) return NeedsText("join", item);
    }
    return JoinText(in, self, items);
  }
  if (name == "format") return StrFormat(in, self, args);
  if (name == "splitlines") {
    const auto bound = TRY(Bind(name, args, {"keepends"}));
    return MakeList(in->budget(), TRY(SplitLines(in->budget(), self, Truthy(bound[0]))));
  }
  if (name == "partition" || name == "rpartition") return Partition(in, self, name, args);
  if (name.starts_with("remove")) return RemoveAffix(self, name, args);
  if (name == "center" || name.ends_with("just") || name == "zfill")
    return Pad(in, self, name, args);
  if (name == "expandtabs") return ExpandTabs(in, self, args);
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex" || name == "count") {
    return FindText(in, self, name, args);
  }
  TRY(Bind(name, args, {}));
  if (name.starts_with("is")) {
    TRY(in->budget()->Work(self.text().size()));
    return Value::Bool(TextIs(self.text(), name.substr(2)));
  }
  return ChangedCase(in, self, name);
}

Result<Value> CallListMethod(Interpreter* in, const Value& self, std::string_view name,
                             const Args& args) {
  if (name == "copy") {
    TRY(Bind(name, args, {}));
    return self;
  }
  const auto bound = TRY(Bind(name, args, {"value", "start", "stop"}, 1));
  const auto& items = self.as<ListObject>().items;
  const Value bounds[3] = {bound[1].is_missing() ? Value::None() : bound[1],
                           bound[2].is_missing() ? Value::None() : bound[2], Value::None()};
  const Value part = TRY(SliceOf(in->budget(), self, bounds));
  const auto& window = part.as<ListObject>().items;
  const size_t offset =
      bound[1].is_missing() || !bound[1].is_integer() ? 0
      : bound[1].integer() >= 0
          ? static_cast<size_t>(bound[1].integer())
          : items.size() -
                std::min<uint64_t>(items.size(), 0 - static_cast<uint64_t>(bound[1].integer()));
  int64_t count = 0;
  for (size_t i = 0; i < window.size(); ++i) {
    if (!TRY(Equal(in->budget(), window[i], bound[0]))) continue;
    if (name == "index") return Value::Int(static_cast<int64_t>(i + offset));
    ++count;
  }
  if (name == "index") return TypeError("the value is not in the list");
  return Value::Int(count);
}

Result<Value> CallDictMethod(const Value& self, std::string_view name, const Args& args) {
  if (name == "get") {
    const auto bound = TRY(Bind(name, args, {"key", "default"}, 1));
    if (!Hashable(bound[0])) {
      return TypeError(std::string("unhashable type: '") + TypeName(bound[0]) + "'");
    }
    if (const Value* found = self.as<DictObject>().Find(bound[0])) return *found;
    return bound[1].is_missing() ? Value::None() : bound[1];
  }
  TRY(Bind(name, args, {}));
  if (name == "copy") return self;
  auto view = std::make_shared<ViewObject>();
  view->which = name[0];
  view->dict = self;
  view->depth = self.depth() + 1;
  return Value::Object(Kind::kView, std::move(view));
}

}  // namespace

MethodState FindMethod(const Value& self, std::string_view name) {
  bool allowed = false, refused = false;
  switch (self.kind()) {
    case Kind::kString:
      allowed = Has(kStringMethods, name);
      break;
    case Kind::kList:
      allowed = Has(kListMethods, name);
      refused = Has(kListRefused, name);
      break;
    case Kind::kTuple:
      allowed = Has(kTupleMethods, name);
      break;
    case Kind::kDict:
      allowed = Has(kDictMethods, name);
      refused = Has(kDictRefused, name);
      break;
    default:
      break;
  }
  return allowed ? MethodState::kAllowed : refused ? MethodState::kRefused : MethodState::kNone;
}

Result<Value> CallMethod(Interpreter* in, const Value& self, std::string_view name,
                         const Args& args) {
  if (self.is_string()) return CallStringMethod(in, self, name, args);
  if (self.is_sequence()) return CallListMethod(in, self, name, args);
  return CallDictMethod(self, name, args);
}

Value Escaped(Budget* budget, const Value& string) {
  std::string out;
  for (const char c : string.text()) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  if (out.size() == string.text().size()) {
    Value same = string;
    same.set_markup(true);
    return same;
  }
  auto value = MakeString(budget, out, string.trusted());
  if (!value.ok()) return Value();
  value->set_markup(true);
  return std::move(value).value();
}

Result<Value> ReplaceText(Budget* budget, const Value& text, const Value& from, const Value& to,
                          int64_t count) {
  const std::string_view bytes = text.text(), what = from.text();
  Value with = text.markup() && !to.markup() ? Escaped(budget, to) : to;
  if (with.is_missing()) with = to;
  TRY(budget->Work(bytes.size()));
  Builder builder(budget);
  size_t done = 0;
  int64_t replaced = 0;
  for (size_t at = 0; at <= bytes.size() && (count < 0 || replaced < count); ++replaced) {
    at = what.empty() ? at : bytes.find(what, at);
    if (at == bytes.npos) break;
    if (replaced % 64 == 0) TRY(budget->Step(1 + with.text().size()));
    if (builder.full()) break;
    builder.Add(text.Part(done, at - done));
    builder.Add(with);
    done = at + what.size();
    if (!what.empty()) {
      at = done;
    } else if (at == bytes.size()) {
      ++at;
    } else {
      NextCodePoint(bytes, &at);
    }
  }
  builder.Add(text.Part(done, bytes.size() - done));
  return builder.Finish(text.markup());
}

Result<Value> JoinText(Interpreter* in, const Value& separator, const std::vector<Value>& items) {
  Builder builder(in->budget());
  for (size_t i = 0; i < items.size(); ++i) {
    TRY(in->budget()->Step());
    if (i > 0) builder.Add(separator);
    const Value text = TRY(ToString(in->budget(), items[i]));
    const bool escape = separator.markup() && !items[i].markup();
    const Value safe = escape ? Escaped(in->budget(), text) : text;
    builder.Add(safe.is_missing() ? text : safe);
    if (builder.full()) break;
  }
  return builder.Finish(separator.markup());
}

Result<Value> StripText(const Value& text, const Value& characters, bool left, bool right) {
  std::string_view rest = text.text();
  size_t begin = 0;
  if (characters.is_missing() || characters.is(Kind::kNone)) {
    if (left) begin = SpaceAtStart(rest);
    rest.remove_prefix(begin);
    if (right) rest.remove_suffix(SpaceAtEnd(rest));
    return text.Part(begin, rest.size());
  }
  if (!characters.is_string()) return NeedsText("strip", characters);
  std::vector<char32_t> set;
  for (size_t at = 0; at < characters.text().size();)
    set.push_back(NextCodePoint(characters.text(), &at));
  std::sort(set.begin(), set.end());
  const auto strips = [&](char32_t c) { return std::binary_search(set.begin(), set.end(), c); };
  size_t end = rest.size();
  for (size_t at = 0; left && begin < end; begin = at) {
    if (!strips(NextCodePoint(rest, &at))) break;
  }
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (static_cast<unsigned char>(rest[last]) & 0xC0) == 0x80) --last;
    size_t at = last;
    if (!strips(NextCodePoint(rest, &at))) break;
    end = last;
  }
  return text.Part(begin, end - begin);
}

Result<std::vector<Value>> SplitLines(Budget* budget, const Value& value, bool keep_ends) {
  std::vector<Value> out;
  const std::string_view text = value.text();
  TRY(budget->Work(text.size() * 4));
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = NextCodePoint(text, &at);
    const bool breaks =
        (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.push_back(value.Part(begin, (keep_ends ? at : end) - begin));
    begin = at;
    TRY(budget->CheckElements(out.size()));
  }
  if (begin < text.size()) out.push_back(value.Part(begin, text.size() - begin));
  return out;
}

}  // namespace hadal::internal::jinja
