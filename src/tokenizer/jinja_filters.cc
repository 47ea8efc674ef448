// Filters, as jinja2 defines them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

using In = Interpreter;
using Filter = Result<Value> (*)(In*, const Value&, const Args&);

bool Given(const Value& value) { return !value.is_missing() && !value.is(Kind::kNone); }

Result<int64_t> IntegerOr(const Value& value, int64_t otherwise, const char* what) {
  if (value.is_missing()) return otherwise;
  if (!value.is_integer())
    return TypeError(std::string(what) + " must be an integer, not " + TypeName(value));
  return value.integer();
}

// A string keeps being safe; anything else becomes text.
Result<Value> SoftString(In* in, const Value& value) {
  return value.is_string() ? Result<Value>(value) : ToString(in->budget(), value);
}

Result<Value> Method(In* in, const Value& value, const char* name, const Args& args) {
  const Value text = TRY(SoftString(in, value));
  return CallMethod(in, text, name, args);
}

Result<Value> Upper(In* in, const Value& v, const Args& a) { return Method(in, v, "upper", a); }
Result<Value> Lower(In* in, const Value& v, const Args& a) { return Method(in, v, "lower", a); }
Result<Value> Capitalize(In* in, const Value& v, const Args& a) {
  return Method(in, v, "capitalize", a);
}
Result<Value> Center(In* in, const Value& v, const Args& a) {
  const auto bound = TRY(Bind("center", a, {"width"}));
  return Method(in, v, "center", {{bound[0].is_missing() ? Value::Int(80) : bound[0]}, {}});
}

// Words begin after white space and -({[<.
Result<Value> Title(In* in, const Value& value, const Args& args) {
  TRY(Bind("title", args, {}));
  const Value string = TRY(SoftString(in, value));
  const std::string_view text = string.text();
  TRY(in->budget()->Work(text.size() * 4));
  std::string out, word;
  const auto flush = [&] {
    size_t first = 0;
    if (!word.empty()) NextCodePoint(word, &first);
    out += ChangeCase(std::string_view(word).substr(0, first), Case::kUpper);
    out += ChangeCase(std::string_view(word).substr(first), Case::kLower);
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCodePoint(text, &at);
    const bool divides = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    if (divides) flush();
    (divides ? out : word) += text.substr(begin, at - begin);
  }
  flush();
  return MakeString(in->budget(), out, string.trusted());
}

Result<Value> Trim(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("trim", args, {"chars"}));
  const Value text = TRY(SoftString(in, value));
  TRY(in->budget()->Work(text.text().size()));
  return StripText(text, bound[0], true, true);
}

Result<Value> ToText(In* in, const Value& value, const Args& args) {
  TRY(Bind("string", args, {}));
  return SoftString(in, value);
}

Result<Value> Safe(In* in, const Value& value, const Args& args) {
  TRY(Bind("safe", args, {}));
  Value text = TRY(ToString(in->budget(), value));
  text.set_markup(true);
  return text;
}

Result<Value> EscapeFilter(In* in, const Value& value, const Args& args) {
  TRY(Bind("escape", args, {}));
  if (value.is_string() && value.markup()) return value;
  const Value out = Escaped(in->budget(), TRY(ToString(in->budget(), value)));
  if (out.is_missing()) return Error{Code::kLimit, "an escaped string over the limit"};
  return out;
}

Result<Value> Replace(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("replace", args, {"old", "new", "count"}, 2));
  const Value text = TRY(ToString(in->budget(), value));
  const Value from = TRY(ToString(in->budget(), bound[0]));
  const Value to = TRY(ToString(in->budget(), bound[1]));
  const int64_t count = Given(bound[2]) ? TRY(IntegerOr(bound[2], -1, "count")) : -1;
  return ReplaceText(in->budget(), text, from, to, count);
}

Result<Value> ToJsonFilter(In* in, const Value& value, const Args& args) {
  const auto bound =
      TRY(Bind("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  std::pair<std::string, std::string> separators;
  if (Given(bound[2])) {
    const std::vector<Value> pair = TRY(in->Iterate(bound[2]));
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      return TypeError("separators must be two strings");
    }
    separators = {std::string(pair[0].text()), std::string(pair[1].text())};
  }
  return ToJson(in->budget(), value, bound[1], Given(bound[2]) ? &separators : nullptr,
                Truthy(bound[0]), Truthy(bound[3]));
}

Result<Value> LengthFilter(In* in, const Value& value, const Args& args) {
  TRY(Bind("length", args, {}));
  return Value::Int(TRY(in->Length(value)));
}

Result<Value> Default(In*, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("default", args, {"default_value", "boolean"}));
  if (value.is_undefined() || (Truthy(bound[1]) && !Truthy(value))) {
    return bound[0].is_missing() ? ConstantString("") : bound[0];
  }
  return value;
}

Result<Value> Join(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("join", args, {"d", "attribute"}));
  std::vector<Value> items = TRY(in->Iterate(value));
  if (Given(bound[1])) {
    for (Value& item : items) item = TRY(in->GetPath(item, bound[1]));
  }
  const Value separator = bound[0].is_missing() ? ConstantString("") : bound[0];
  return JoinText(in, TRY(ToString(in->budget(), separator)), items);
}

Result<Value> First(In* in, const Value& value, const Args& args) {
  TRY(Bind("first", args, {}));
  if (value.is(Kind::kGenerator) && value.as<GeneratorObject>().failed) {
    return value.as<GeneratorObject>().error;
  }
  const std::vector<Value> items = TRY(in->Iterate(value));
  return items.empty() ? Value::Undefined("no first item, the sequence was empty") : items.front();
}

Result<Value> Last(In* in, const Value& value, const Args& args) {
  TRY(Bind("last", args, {}));
  if (value.is(Kind::kGenerator)) return TypeError("'generator' object is not reversible");
  const std::vector<Value> items = TRY(in->Iterate(value));
  return items.empty() ? Value::Undefined("no last item, the sequence was empty") : items.back();
}

Result<Value> ListFilter(In* in, const Value& value, const Args& args) {
  TRY(Bind("list", args, {}));
  return MakeList(in->budget(), TRY(in->Iterate(value)));
}

Result<Value> ItemsFilter(In* in, const Value& value, const Args& args) {
  TRY(Bind("items", args, {}));
  if (value.is_undefined()) return MakeGenerator(in->budget(), std::vector<Value>());
  if (!value.is(Kind::kDict)) {
    return MakeGenerator(in->budget(), TypeError("can only get item pairs from a mapping"));
  }
  const Value view = TRY(CallMethod(in, value, "items", {}));
  return MakeGenerator(in->budget(), TRY(in->Iterate(view)));
}

Result<Value> Reverse(In* in, const Value& value, const Args& args) {
  TRY(Bind("reverse", args, {}));
  if (value.is_string()) {
    const Value bounds[3] = {Value::None(), Value::None(), Value::Int(-1)};
    return SliceOf(in->budget(), value, bounds);
  }
  std::vector<Value> items = TRY(in->Iterate(value));
  std::reverse(items.begin(), items.end());
  if (value.is(Kind::kGenerator)) return MakeList(in->budget(), std::move(items));
  return MakeGenerator(in->budget(), std::move(items));
}

// One function of an item: `map`, or the test of `select`.
Result<std::vector<Value>> MapItems(In* in, const Value& value, const Args& args) {
  std::vector<Value> items = TRY(in->Iterate(value));
  if (args.positional.empty()) {
    const auto bound = TRY(Bind("map", args, {"attribute", "default"}));
    if (bound[0].is_missing()) return TypeError("map requires a filter argument");
    for (Value& item : items) {
      item = TRY(in->GetPath(item, bound[0], bound[1]));
    }
    return items;
  }
  if (!args.positional[0].is_string()) return TypeError("map takes the name of a filter");
  Args rest = args;
  rest.positional.erase(rest.positional.begin());
  const std::string name(args.positional[0].text());
  if (!IsFilter(name)) return TypeError("no filter named '" + Brief(name) + "'");
  for (Value& item : items) item = TRY(in->CallFilter(name, item, rest));
  return items;
}

Result<Value> Map(In* in, const Value& value, const Args& args) {
  if (!Truthy(value)) return MakeGenerator(in->budget(), std::vector<Value>());
  return MakeGenerator(in->budget(), MapItems(in, value, args));
}

Result<std::vector<Value>> SelectItems(In* in, const Value& value, const Args& args, bool attribute,
                                       bool keep) {
  const size_t skip = attribute ? 1 : 0;
  if (args.positional.size() < skip) return TypeError("missing parameter for attribute name");
  Args rest;
  const bool tests = args.positional.size() > skip;
  if (tests) {
    rest.positional.assign(args.positional.begin() + static_cast<long>(skip) + 1,
                           args.positional.end());
    rest.named = args.named;
    if (!args.positional[skip].is_string()) return TypeError("the name of a test must be a string");
  }
  std::vector<Value> out;
  for (const Value& item : TRY(in->Iterate(value))) {
    const Value subject = attribute ? TRY(in->GetPath(item, args.positional[0])) : item;
    const bool yes =
        tests ? TRY(in->CallTest(args.positional[skip].text(), subject, rest)) : Truthy(subject);
    if (yes == keep) out.push_back(item);
  }
  return out;
}

template <bool kAttribute, bool kKeep>
Result<Value> Select(In* in, const Value& value, const Args& args) {
  if (!Truthy(value)) return MakeGenerator(in->budget(), std::vector<Value>());
  return MakeGenerator(in->budget(), SelectItems(in, value, args, kAttribute, kKeep));
}

Result<Value> IgnoreCase(In* in, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return CallMethod(in, value, "lower", {});
}

using Keyed = std::pair<std::vector<Value>, Value>;

// Sorts stably by keys; in reverse, equal items keep their order, as in Python.
Status SortKeyed(In* in, std::vector<Keyed>* items, bool reverse, bool list_keys) {
  Status status;
  const auto less = [&](const Keyed& a, const Keyed& b) {
    for (size_t i = 0; status.ok() && i < a.first.size(); ++i) {
      const auto order = Order(in->budget(), a.first[i], b.first[i]);
      if (!order.ok()) {
        // Lists are compared for equality first, so equal items of any type are fine.
        const auto equal = Equal(in->budget(), a.first[i], b.first[i]);
        if (equal.ok() && *equal && list_keys) continue;
        status = order.error();
        return false;
      }
      if (*order != 0) return *order == -1;
    }
    return false;
  };
  std::stable_sort(items->begin(), items->end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? less(b, a) : less(a, b);
  });
  return status;
}

Result<std::vector<Value>> SortKeys(In* in, const Value& item, const Value& attribute,
                                    bool case_sensitive) {
  std::vector<Value> keys;
  if (!Given(attribute)) return std::vector<Value>{TRY(IgnoreCase(in, item, case_sensitive))};
  const std::string_view paths = attribute.is_string() ? attribute.text() : std::string_view();
  for (size_t begin = 0; begin <= paths.size();) {
    const size_t end = std::min(paths.find(',', begin), paths.size());
    const Value path = attribute.is_string() ? attribute.Part(begin, end - begin) : attribute;
    keys.push_back(TRY(IgnoreCase(in, TRY(in->GetPath(item, path)), case_sensitive)));
    begin = end + 1;
  }
  return keys;
}

Result<Value> Sort(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("sort", args, {"reverse", "case_sensitive", "attribute"}));
  std::vector<Keyed> keyed;
  for (const Value& item : TRY(in->Iterate(value))) {
    keyed.emplace_back(TRY(SortKeys(in, item, bound[2], Truthy(bound[1]))), item);
  }
  TRY(SortKeyed(in, &keyed, Truthy(bound[0]), true));
  std::vector<Value> out;
  for (Keyed& item : keyed) out.push_back(std::move(item.second));
  return MakeList(in->budget(), std::move(out));
}

Result<Value> DictSort(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("dictsort", args, {"case_sensitive", "by", "reverse"}));
  const std::string by = bound[1].is_string() ? std::string(bound[1].text()) : "key";
  if (by != "key" && by != "value") return TypeError("dictsort: by must be 'key' or 'value'");
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (!value.is(Kind::kDict)) return TypeError("dictsort takes a mapping");
  std::vector<Keyed> keyed;
  const Value view = TRY(CallMethod(in, value, "items", {}));
  for (const Value& item : TRY(in->Iterate(view))) {
    const Value& key = item.as<ListObject>().items[by == "key" ? 0 : 1];
    keyed.emplace_back(std::vector<Value>{TRY(IgnoreCase(in, key, Truthy(bound[0])))}, item);
  }
  TRY(SortKeyed(in, &keyed, Truthy(bound[2]), false));
  std::vector<Value> out;
  for (Keyed& item : keyed) out.push_back(std::move(item.second));
  return MakeList(in->budget(), std::move(out));
}

Result<Value> GroupBy(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("groupby", args, {"attribute", "default", "case_sensitive"}, 1));
  const auto key_of = [&](const Value& item) -> Result<Value> {
    return in->GetPath(item, bound[0], bound[1]);
  };
  std::vector<Keyed> keyed;
  for (const Value& item : TRY(in->Iterate(value))) {
    const Value key = TRY(IgnoreCase(in, TRY(key_of(item)), Truthy(bound[2])));
    keyed.emplace_back(std::vector<Value>{key}, item);
  }
  TRY(SortKeyed(in, &keyed, false, false));
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < keyed.size(); begin = end) {
    std::vector<Value> group;
    while (end < keyed.size() &&
           TRY(Equal(in->budget(), keyed[end].first[0], keyed[begin].first[0]))) {
      group.push_back(keyed[end++].second);
    }
    const Value list = TRY(MakeList(in->budget(), std::move(group)));
    const Value key = TRY(key_of(keyed[begin].second));
    groups.push_back(TRY(MakeList(in->budget(), {key, list}, Kind::kTuple)));
  }
  return MakeList(in->budget(), std::move(groups));
}

Result<std::vector<Value>> UniqueItems(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("unique", args, {"case_sensitive", "attribute"}));
  std::vector<Value> out;
  DictObject seen;
  for (const Value& item : TRY(in->Iterate(value))) {
    const Value key = TRY(IgnoreCase(in, Given(bound[1]) ? TRY(in->GetPath(item, bound[1])) : item,
                                     Truthy(bound[0])));
    if (!Hashable(key)) return TypeError(std::string("unhashable type: '") + TypeName(key) + "'");
    TRY(in->budget()->Step());
    if (seen.Find(key)) continue;
    seen.Set(key, Value::None());
    out.push_back(item);
  }
  return out;
}

Result<Value> Unique(In* in, const Value& value, const Args& args) {
  return MakeGenerator(in->budget(), UniqueItems(in, value, args));
}

Result<Value> Extreme(In* in, const Value& value, const Args& args, int wanted) {
  const auto bound = TRY(Bind("min", args, {"case_sensitive", "attribute"}));
  Value best, best_key;
  for (const Value& item : TRY(in->Iterate(value))) {
    const Value key = TRY(IgnoreCase(in, Given(bound[1]) ? TRY(in->GetPath(item, bound[1])) : item,
                                     Truthy(bound[0])));
    if (!best.is_missing() && TRY(Order(in->budget(), key, best_key)) != wanted) continue;
    best = item;
    best_key = key;
  }
  return best.is_missing() ? Value::Undefined("no item, the sequence was empty") : best;
}

Result<Value> Min(In* in, const Value& v, const Args& a) { return Extreme(in, v, a, -1); }
Result<Value> Max(In* in, const Value& v, const Args& a) { return Extreme(in, v, a, 1); }

Result<Value> Sum(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("sum", args, {"attribute", "start"}));
  Value total = bound[1].is_missing() ? Value::Int(0) : bound[1];
  if (total.is_string()) return TypeError("sum() cannot add strings: use join");
  for (const Value& item : TRY(in->Iterate(value))) {
    const Value part = Given(bound[0]) ? TRY(in->GetPath(item, bound[0])) : item;
    total = TRY(Arithmetic(in->budget(), Op::kAdd, total, part));
  }
  return total;
}

Result<Value> TruncatedToInt(double value) {
  if (!(std::abs(value) < 9223372036854775808.0)) {
    return Error{Code::kLimit, "an integer beyond 64 bits"};
  }
  return Value::Int(static_cast<int64_t>(value));
}

Result<Value> IntFilter(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("int", args, {"default", "base"}));
  const int64_t base = TRY(IntegerOr(bound[1], 10, "base"));
  const Value otherwise = bound[0].is_missing() ? Value::Int(0) : bound[0];
  TRY(in->budget()->Work(value.is_string() ? value.text().size() : 0));
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (value.is_integer()) return Value::Int(value.integer());
  if (value.is(Kind::kBigInt)) return value;
  if (value.is(Kind::kFloat))
    return std::isfinite(value.real()) ? TruncatedToInt(value.real()) : otherwise;
  if (!value.is_string()) return otherwise;
  if (base < 0 || base > 36 || base == 1) return otherwise;
  if (const auto number = ParseInt(value.text(), static_cast<int>(base)))
    return Value::Int(*number);
  const auto real = ParseFloat(value.text());
  if (!real || !std::isfinite(*real)) return otherwise;
  return TruncatedToInt(*real);
}

Result<Value> FloatFilter(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("float", args, {"default"}));
  TRY(in->budget()->Work(value.is_string() ? value.text().size() : 0));
  const Value otherwise = bound[0].is_missing() ? Value::Float(0) : bound[0];
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (value.is_number()) return Value::Float(value.real());
  if (!value.is_string() && !value.is(Kind::kBigInt)) return otherwise;
  const auto real = ParseFloat(value.text());
  return real ? Value::Float(*real) : otherwise;
}

Result<Value> Abs(In* in, const Value& value, const Args& args) {
  TRY(Bind("abs", args, {}));
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (value.is(Kind::kFloat)) return Value::Float(std::abs(value.real()));
  if (!value.is_integer())
    return TypeError(std::string("bad operand type for abs(): ") + TypeName(value));
  if (value.integer() >= 0) return Value::Int(value.integer());
  return Arithmetic(in->budget(), Op::kSub, Value::Int(0), Value::Int(value.integer()));
}

// Python's round(): the decimal nearest to the exact binary value, ties to even.
Result<Value> RoundCommon(const Value& value, int64_t precision) {
  if (value.is_integer()) {
    if (precision >= 0) return Value::Int(value.integer());
    if (precision < -18) return Value::Int(0);
    __int128 unit = 1;
    for (int64_t i = 0; i < -precision; ++i) unit *= 10;
    const __int128 number = value.integer();
    __int128 low = number / unit * unit;
    if (number < low) low -= unit;
    const __int128 rest = number - low;
    const bool up = rest * 2 > unit || (rest * 2 == unit && (low / unit) % 2 != 0);
    const __int128 result = up ? low + unit : low;
    if (result > INT64_MAX || result < INT64_MIN)
      return Error{Code::kLimit, "an integer beyond 64 bits"};
    return Value::Int(static_cast<int64_t>(result));
  }
  const double real = value.real();
  if (!std::isfinite(real) || precision > 330) return value;
  if (precision >= 0) {
    char text[800];
    std::snprintf(text, sizeof text, "%.*f", static_cast<int>(precision), real);
    return Value::Float(std::strtod(text, nullptr));
  }
  if (precision < -308) return Value::Float(std::copysign(0.0, real));
  const double unit = std::pow(10.0, static_cast<double>(-precision));
  return Value::Float(std::nearbyint(real / unit) * unit);
}

Result<Value> Round(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("round", args, {"precision", "method"}));
  const int64_t precision = TRY(IntegerOr(bound[0], 0, "precision"));
  const std::string method = bound[1].is_string() ? std::string(bound[1].text()) : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    return TypeError("round: method must be common, ceil or floor");
  }
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (!value.is_number())
    return TypeError(std::string("round takes a number, not ") + TypeName(value));
  if (method == "common") return RoundCommon(value, precision);
  const Value scale =
      TRY(Arithmetic(in->budget(), Op::kPow, Value::Int(10), Value::Int(precision)));
  const Value scaled = TRY(Arithmetic(in->budget(), Op::kMul, value, scale));
  if (!std::isfinite(scaled.real())) return TypeError("round: not a finite number");
  const double whole = method == "ceil" ? std::ceil(scaled.real()) : std::floor(scaled.real());
  const Value integer = TRY(TruncatedToInt(whole));
  return Arithmetic(in->budget(), Op::kDiv, integer, scale);
}

Result<Value> Indent(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("indent", args, {"width", "first", "blank"}));
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (!value.is_string())
    return TypeError(std::string("indent takes a string, not ") + TypeName(value));
  Value margin = bound[0];
  if (!margin.is_string()) {
    const int64_t width = std::max<int64_t>(TRY(IntegerOr(margin, 4, "width")), 0);
    TRY(in->budget()->CheckBytes(static_cast<uint64_t>(width)));
    TRY(in->budget()->Work(static_cast<uint64_t>(width)));
    margin = TRY(MakeString(in->budget(), std::string(static_cast<size_t>(width), ' '), true));
  }
  const bool blank = Truthy(bound[2]);
  std::vector<Value> lines = TRY(SplitLines(in->budget(), value, false));
  // A line break at the end opens one more, empty line.
  const std::vector<Value> with_end = TRY(SplitLines(in->budget(), value, true));
  if (value.text().empty() ||
      (!with_end.empty() && with_end.back().text().size() != lines.back().text().size())) {
    lines.push_back(value.Part(0, 0));
  }
  Builder builder(in->budget());
  if (Truthy(bound[1])) builder.Add(margin);
  for (size_t i = 0; i < lines.size() && !builder.full(); ++i) {
    TRY(in->budget()->Step());
    if (i > 0) builder.Add("\n", true);
    if (i > 0 && (blank || !lines[i].text().empty())) builder.Add(margin);
    builder.Add(lines[i]);
  }
  return builder.Finish(value.markup());
}

Result<std::vector<Value>> BatchItems(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("batch", args, {"linecount", "fill_with"}, 1));
  const int64_t count = TRY(IntegerOr(bound[0], 1, "linecount"));
  std::vector<Value> rows, row;
  for (const Value& item : TRY(in->Iterate(value))) {
    if (static_cast<int64_t>(row.size()) == count) {
      rows.push_back(TRY(MakeList(in->budget(), std::move(row))));
      row.clear();
    }
    row.push_back(item);
  }
  if (row.empty()) return rows;
  if (Given(bound[1]) && count > 0) {
    TRY(in->budget()->CheckElements(static_cast<uint64_t>(count)));
    while (static_cast<int64_t>(row.size()) < count) row.push_back(bound[1]);
  }
  rows.push_back(TRY(MakeList(in->budget(), std::move(row))));
  return rows;
}

Result<Value> Batch(In* in, const Value& value, const Args& args) {
  return MakeGenerator(in->budget(), BatchItems(in, value, args));
}

Result<std::vector<Value>> SliceItems(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("slice", args, {"slices", "fill_with"}, 1));
  const int64_t slices = TRY(IntegerOr(bound[0], 1, "slices"));
  const std::vector<Value> items = TRY(in->Iterate(value));
  if (slices == 0) return TypeError("division by zero");
  if (slices < 0) return std::vector<Value>();
  TRY(in->budget()->CheckElements(static_cast<uint64_t>(slices)));
  TRY(in->budget()->Step(static_cast<uint64_t>(slices)));
  const size_t each = items.size() / static_cast<size_t>(slices);
  const size_t extra = items.size() % static_cast<size_t>(slices);
  std::vector<Value> rows;
  size_t at = 0;
  for (size_t i = 0; i < static_cast<size_t>(slices); ++i) {
    const size_t size = each + (i < extra ? 1 : 0);
    std::vector<Value> row(items.begin() + static_cast<long>(at),
                           items.begin() + static_cast<long>(at + size));
    at += size;
    if (Given(bound[1]) && i >= extra) row.push_back(bound[1]);
    rows.push_back(TRY(MakeList(in->budget(), std::move(row))));
  }
  return rows;
}

Result<Value> SliceFilter(In* in, const Value& value, const Args& args) {
  return MakeGenerator(in->budget(), SliceItems(in, value, args));
}

Result<Value> WordCount(In* in, const Value& value, const Args& args) {
  TRY(Bind("wordcount", args, {}));
  const Value text = TRY(SoftString(in, value));
  TRY(in->budget()->Work(text.text().size() * 4));
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.text().size();) {
    const size_t begin = at;
    const char32_t c = NextCodePoint(text.text(), &at);
    const bool word = c == '_' || TextIs(text.text().substr(begin, at - begin), "alnum");
    words += word && !inside;
    inside = word;
  }
  return Value::Int(words);
}

Result<Value> Truncate(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("truncate", args, {"length", "killwords", "end", "leeway"}));
  const int64_t length = TRY(IntegerOr(bound[0], 255, "length"));
  const int64_t leeway = Given(bound[3]) ? TRY(IntegerOr(bound[3], 5, "leeway")) : 5;
  const Value end = bound[2].is_missing() ? ConstantString("...") : bound[2];
  if (!end.is_string()) return TypeError("truncate: end must be a string");
  const int64_t end_length = static_cast<int64_t>(CodePoints(end.text()));
  if (length < end_length || leeway < 0) return TypeError("truncate: length or leeway too small");
  const uint64_t room = static_cast<uint64_t>(length) + static_cast<uint64_t>(leeway);
  if (static_cast<uint64_t>(TRY(in->Length(value))) <= room) return value;
  if (!value.is_string())
    return TypeError(std::string("truncate takes a string, not ") + TypeName(value));
  const size_t cut = ByteOffset(value.text(), static_cast<size_t>(length - end_length));
  size_t keep = cut;
  if (!Truthy(bound[1])) {
    const size_t space = value.text().substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) keep = space;
  }
  return Concatenate(in->budget(), value.Part(0, keep), end);
}

Result<Value> Format(In* in, const Value& value, const Args& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    return TypeError("format takes positional or keyword arguments, not both");
  }
  Value arguments;
  if (!args.named.empty()) {
    std::vector<std::pair<Value, Value>> items;
    for (const auto& [name, item] : args.named) items.emplace_back(ConstantString(name), item);
    arguments = TRY(MakeDict(in->budget(), std::move(items)));
  } else {
    arguments = TRY(MakeList(in->budget(), args.positional, Kind::kTuple));
  }
  return PercentFormat(in->budget(), TRY(SoftString(in, value)), arguments);
}

Result<Value> Attr(In* in, const Value& value, const Args& args) {
  const auto bound = TRY(Bind("attr", args, {"name"}, 1));
  if (!bound[0].is_string()) return TypeError("attr takes a name");
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (value.is(Kind::kDict) && FindMethod(value, bound[0].text()) == MethodState::kNone &&
      !bound[0].text().starts_with("__")) {
    return Value::Undefined("'dict' has no attribute '" + Brief(bound[0].text()) + "'");
  }
  return in->GetAttribute(value, bound[0].text());
}

const std::unordered_map<std::string_view, Filter>& Filters() {
  static const std::unordered_map<std::string_view, Filter> filters = {
      {"abs", Abs},
      {"attr", Attr},
      {"batch", Batch},
      {"capitalize", Capitalize},
      {"center", Center},
      {"count", LengthFilter},
      {"d", Default},
      {"default", Default},
      {"dictsort", DictSort},
      {"e", EscapeFilter},
      {"escape", EscapeFilter},
      {"first", First},
      {"float", FloatFilter},
      {"format", Format},
      {"groupby", GroupBy},
      {"indent", Indent},
      {"int", IntFilter},
      {"items", ItemsFilter},
      {"join", Join},
      {"last", Last},
      {"length", LengthFilter},
      {"list", ListFilter},
      {"lower", Lower},
      {"map", Map},
      {"max", Max},
      {"min", Min},
      {"reject", Select<false, false>},
      {"rejectattr", Select<true, false>},
      {"replace", Replace},
      {"reverse", Reverse},
      {"round", Round},
      {"safe", Safe},
      {"select", Select<false, true>},
      {"selectattr", Select<true, true>},
      {"slice", SliceFilter},
      {"sort", Sort},
      {"string", ToText},
      {"sum", Sum},
      {"title", Title},
      {"tojson", ToJsonFilter},
      {"trim", Trim},
      {"truncate", Truncate},
      {"unique", Unique},
      {"upper", Upper},
      {"wordcount", WordCount}};
  return filters;
}

}  // namespace

bool IsFilter(std::string_view name) { return Filters().count(name) != 0; }

Result<Value> Interpreter::CallFilter(std::string_view name, const Value& input, const Args& args) {
  TRY(budget_->Step());
  const auto found = Filters().find(name);
  if (found == Filters().end()) {
    return Error{
        Code::kUnsupported,
        "no filter named '" + Brief(name) + "'" +
            (name == "from_json" ? " (give tool arguments as an object, not as text)" : "")};
  }
  return found->second(this, input, args);
}

}  // namespace hadal::internal::jinja
