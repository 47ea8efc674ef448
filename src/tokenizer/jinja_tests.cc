// What may stand after `is`.
#include <algorithm>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

constexpr std::string_view kTests[] = {
    "odd",     "even",   "divisibleby", "defined",  "undefined", "filter", "test",    "none",
    "boolean", "false",  "true",        "integer",  "float",     "lower",  "upper",   "string",
    "mapping", "number", "sequence",    "iterable", "callable",  "sameas", "escaped", "in",
    "==",      "eq",     "equalto",     "!=",       "ne",        ">",      "gt",      "greaterthan",
    "ge",      ">=",     "<",           "lt",       "lessthan",  "<=",     "le"};

Result<Value> Remainder(Budget* budget, const Value& value, const Value& by) {
  return Arithmetic(budget, Op::kMod, value, by);
}

bool IsSequence(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
      return true;
    default:
      return false;
  }
}

bool IsIterable(const Value& v) {
  return IsSequence(v) || v.is(Kind::kView) || v.is(Kind::kGenerator) || v.is(Kind::kLoop);
}

bool IsCallable(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kMacro:
    case Kind::kMethod:
    case Kind::kFunction:
    case Kind::kLoop:
    case Kind::kJoiner:
      return true;
    default:
      return false;
  }
}

// Tests without argument that only look at the kind.
std::pair<bool, bool> KindTest(std::string_view name, const Value& v) {
  const bool boolean = v.is(Kind::kBool);
  if (name == "defined") return {true, !v.is_undefined()};
  if (name == "undefined") return {true, v.is_undefined()};
  if (name == "none") return {true, v.is(Kind::kNone)};
  if (name == "boolean") return {true, boolean};
  if (name == "true") return {true, boolean && v.boolean()};
  if (name == "false") return {true, boolean && !v.boolean()};
  if (name == "integer") return {true, v.is(Kind::kInt) || v.is(Kind::kBigInt)};
  if (name == "float") return {true, v.is(Kind::kFloat)};
  if (name == "number") return {true, v.is_number() || v.is(Kind::kBigInt)};
  if (name == "string") return {true, v.is_string()};
  if (name == "mapping") return {true, v.is(Kind::kDict)};
  if (name == "sequence") return {true, IsSequence(v)};
  if (name == "iterable") return {true, IsIterable(v)};
  if (name == "callable") return {true, IsCallable(v)};
  if (name == "escaped") return {true, v.is_string() && v.markup()};
  return {false, false};
}

Result<bool> OrderTest(Budget* budget, std::string_view name, const Value& a, const Value& b) {
  if (name == "==" || name == "eq" || name == "equalto") return Equal(budget, a, b);
  if (name == "!=" || name == "ne") return !TRY(Equal(budget, a, b));
  const int order = TRY(Order(budget, a, b));
  if (name == ">" || name == "gt" || name == "greaterthan") return order == 1;
  if (name == ">=" || name == "ge") return order == 1 || order == 0;
  if (name == "<" || name == "lt" || name == "lessthan") return order == -1;
  return order == -1 || order == 0;
}

}  // namespace

bool IsTest(std::string_view name) {
  return std::find(std::begin(kTests), std::end(kTests), name) != std::end(kTests);
}

Result<bool> Interpreter::CallTest(std::string_view name, const Value& v, const Args& args) {
  TRY(budget_->Step());
  if (!IsTest(name)) return Error{Code::kUnsupported, "no test named '" + Brief(name) + "'"};
  if (const auto [known, yes] = KindTest(name, v); known) {
    TRY(Bind(name, args, {}));
    return yes;
  }
  if (name == "odd" || name == "even") {
    TRY(Bind(name, args, {}));
    const Value rest = TRY(Remainder(budget_, v, Value::Int(2)));
    return Equal(budget_, rest, Value::Int(name == "odd"));
  }
  if (name == "lower" || name == "upper") {
    TRY(Bind(name, args, {}));
    const Value text = TRY(ToString(budget_, v));
    TRY(budget_->Work(text.text().size()));
    return TextIs(text.text(), name);
  }
  if (name == "filter" || name == "test") {
    TRY(Bind(name, args, {}));
    if (!v.is_string()) return false;
    return name == "filter" ? IsFilter(v.text()) : IsTest(v.text());
  }
  if (name == "divisibleby") {
    const auto bound = TRY(Bind(name, args, {"num"}, 1));
    return Equal(budget_, TRY(Remainder(budget_, v, bound[0])), Value::Int(0));
  }
  const auto bound = TRY(Bind(name, args, {"other"}, 1));
  if (name == "sameas") return Same(v, bound[0]);
  if (name == "in") return Contains(bound[0], v);
  return OrderTest(budget_, name, v, bound[0]);
}

}  // namespace hadal::internal::jinja
