// Operators with Python's rules; integers are 64 bits and overflow is an error.
#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

constexpr const char* kOpNames[] = {"+", "-", "*", "/", "//", "%", "**"};

Error Overflow() { return {Code::kLimit, "an integer beyond 64 bits"}; }
Error DivisionByZero() { return {Code::kInvalid, "division by zero"}; }

Result<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return DivisionByZero();
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return Overflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return Overflow();
  }
  return Value::Int(result);
}

Result<Value> Integers(Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Op::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return Overflow();
      return Value::Int(result);
    case Op::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return Overflow();
      return Value::Int(result);
    case Op::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return Overflow();
      return Value::Int(result);
    case Op::kDiv:
      if (b == 0) return DivisionByZero();
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case Op::kFloorDiv:
    case Op::kMod: {
      if (b == 0) return DivisionByZero();
      if (b == -1) return op == Op::kMod ? Value::Int(0) : Integers(Op::kSub, 0, a);
      int64_t quotient = a / b, rest = a % b;
      if (rest != 0 && (rest < 0) != (b < 0)) {
        --quotient;
        rest += b;
      }
      return Value::Int(op == Op::kMod ? rest : quotient);
    }
    default:
      return IntegerPower(a, b);
  }
}

Result<Value> Reals(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd:
      return Value::Float(a + b);
    case Op::kSub:
      return Value::Float(a - b);
    case Op::kMul:
      return Value::Float(a * b);
    case Op::kDiv:
      if (b == 0) return DivisionByZero();
      return Value::Float(a / b);
    case Op::kFloorDiv:
    case Op::kMod: {
      if (b == 0) return DivisionByZero();
      double rest = std::fmod(a, b);
      double quotient = (a - rest) / b;
      if (rest != 0) {
        if ((b < 0) != (rest < 0)) {
          rest += b;
          quotient -= 1;
        }
      } else {
        rest = std::copysign(0.0, b);
      }
      if (op == Op::kMod) return Value::Float(rest);
      if (quotient == 0) return Value::Float(std::copysign(0.0, a / b));
      const double whole = std::floor(quotient);
      return Value::Float(quotient - whole > 0.5 ? whole + 1 : whole);
    }
    default: {
      if (a == 0 && b < 0) return DivisionByZero();
      if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
        return TypeError("a power that is a complex number");
      }
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
        return Error{Code::kInvalid, "a power too large for a float"};
      }
      return Value::Float(result);
    }
  }
}

Result<Value> AddStrings(Budget* budget, const Value& a, const Value& b) {
  if (a.markup() == b.markup()) return Concatenate(budget, a, b);
  // A safe string escapes what is put beside it.
  Value left = a.markup() ? a : Escaped(budget, a);
  const Value right = b.markup() ? b : Escaped(budget, b);
  if (left.is_missing() || right.is_missing()) {
    return budget->CheckBytes(budget->limits().max_output_bytes + 1).error();
  }
  left.set_markup(true);
  return Concatenate(budget, left, right);
}

Result<Value> Repeat(Budget* budget, const Value& what, int64_t times) {
  const uint64_t n = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  if (what.is_string()) {
    const uint64_t size = what.text().size();
    if (size == 0 || n == 0) return what.Part(0, 0);
    if (n > budget->limits().max_output_bytes / size) {
      return budget->CheckBytes(budget->limits().max_output_bytes + 1).error();
    }
    TRY(budget->Work(size * n));
    // Short strings are first gathered into a block, so the work is by bytes, not by copies.
    const uint64_t copies = std::clamp<uint64_t>(4096 / size, 1, n);
    Builder block(budget), builder(budget);
    for (uint64_t i = 0; i < copies; ++i) block.Add(what);
    const Value piece = TRY(block.Finish());
    for (uint64_t i = 0; i < n / copies; ++i) builder.Add(piece);
    for (uint64_t i = 0; i < n % copies; ++i) builder.Add(what);
    return builder.Finish(what.markup());
  }
  const auto& items = what.as<ListObject>().items;
  if (!items.empty() && n > budget->limits().max_elements / items.size()) {
    return budget->CheckElements(budget->limits().max_elements + 1).error();
  }
  TRY(budget->Step(items.size() * n / 8));
  std::vector<Value> out;
  for (uint64_t i = 0; !items.empty() && i < n; ++i)
    out.insert(out.end(), items.begin(), items.end());
  return MakeList(budget, std::move(out), what.kind());
}

}  // namespace

Result<Value> Arithmetic(Budget* budget, Op op, const Value& a, const Value& b) {
  TRY(budget->Step());
  for (const Value* v : {&a, &b}) {
    const bool formats = op == Op::kMod && a.is_string();
    if (v->is_undefined() && !formats) return TypeError(std::string(v->undefined_message()));
  }
  if (a.is_integer() && b.is_integer()) return Integers(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return Reals(op, a.real(), b.real());
  if (op == Op::kMod && a.is_string()) return PercentFormat(budget, a, b);
  if (op == Op::kAdd && a.is_string() && b.is_string()) return AddStrings(budget, a, b);
  if (op == Op::kAdd && a.is_sequence() && a.kind() == b.kind()) {
    const auto& x = a.as<ListObject>().items;
    const auto& y = b.as<ListObject>().items;
    TRY(budget->CheckElements(x.size() + y.size()));
    TRY(budget->Step((x.size() + y.size()) / 8));
    std::vector<Value> out(x);
    out.insert(out.end(), y.begin(), y.end());
    return MakeList(budget, std::move(out), a.kind());
  }
  if (op == Op::kMul) {
    const bool left = a.is_string() || a.is_sequence(), right = b.is_string() || b.is_sequence();
    if (left && b.is_integer()) return Repeat(budget, a, b.integer());
    if (right && a.is_integer()) return Repeat(budget, b, a.integer());
  }
  if (a.is(Kind::kBigInt) || b.is(Kind::kBigInt)) return Overflow();
  return TypeError(std::string("unsupported operand types for ") + kOpNames[static_cast<int>(op)] +
                   ": '" + TypeName(a) + "' and '" + TypeName(b) + "'" +
                   (op == Op::kAdd && (a.is(Kind::kNone) || b.is(Kind::kNone))
                        ? " (a message without content?)"
                        : ""));
}

namespace {

struct Span {
  int64_t start, count, step;
};

// Python's slice.indices().
Result<Span> Indices(const Value (&bounds)[3], int64_t size) {
  for (const Value& bound : bounds) {
    if (!bound.is(Kind::kNone) && !bound.is_integer()) {
      return TypeError("slice indices must be integers or none");
    }
  }
  const int64_t step = bounds[2].is(Kind::kNone) ? 1 : bounds[2].integer();
  if (step == 0) return TypeError("slice step cannot be zero");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto clamp = [&](const Value& bound, int64_t absent) {
    if (bound.is(Kind::kNone)) return absent;
    const int64_t at = bound.integer();
    if (at < -size) return low;
    return std::clamp(at < 0 ? at + size : at, low, std::max(low, high));
  };
  const int64_t start = clamp(bounds[0], step > 0 ? low : high);
  const int64_t stop = clamp(bounds[1], step > 0 ? high : low);
  RangeObject range;
  range.start = start;
  range.stop = stop;
  range.step = step;
  return Span{start, range.size(), step};
}

Result<Value> SliceString(Budget* budget, const Value& text, const Value (&bounds)[3]) {
  const std::string_view bytes = text.text();
  TRY(budget->Work(bytes.size() * 4));
  const Span span = TRY(Indices(bounds, static_cast<int64_t>(CodePoints(bytes))));
  if (span.count == 0) return text.Part(0, 0);
  const size_t first = ByteOffset(bytes, static_cast<size_t>(span.start));
  if (span.step == 1) {
    return text.Part(first, ByteOffset(bytes.substr(first), static_cast<size_t>(span.count)));
  }
  std::vector<size_t> offsets;
  for (size_t at = 0; at < bytes.size();) {
    offsets.push_back(at);
    NextCodePoint(bytes, &at);
  }
  offsets.push_back(bytes.size());
  TRY(budget->Step(static_cast<uint64_t>(span.count) / 4));
  Builder builder(budget);
  for (int64_t i = 0; i < span.count; ++i) {
    const size_t at = static_cast<size_t>(span.start + i * span.step);
    builder.Add(text.Part(offsets[at], offsets[at + 1] - offsets[at]));
  }
  return builder.Finish(text.markup());
}

}  // namespace

Result<Value> SliceOf(Budget* budget, const Value& value, const Value (&bounds)[3]) {
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  if (value.is_string()) return SliceString(budget, value, bounds);
  if (value.is_sequence()) {
    const auto& items = value.as<ListObject>().items;
    const Span span = TRY(Indices(bounds, static_cast<int64_t>(items.size())));
    std::vector<Value> out;
    for (int64_t i = 0; i < span.count; ++i) {
      out.push_back(items[static_cast<size_t>(span.start + i * span.step)]);
    }
    return MakeList(budget, std::move(out), value.kind());
  }
  if (value.is(Kind::kRange)) {
    const auto& range = value.as<RangeObject>();
    const Span span = TRY(Indices(bounds, range.size()));
    auto out = std::make_shared<RangeObject>();
    const auto at = [&](int64_t i) { return range.start + i * range.step; };
    out->start = at(span.start);
    if (__builtin_mul_overflow(span.step, range.step, &out->step)) return Overflow();
    if (__builtin_mul_overflow(span.count, out->step, &out->stop) ||
        __builtin_add_overflow(out->stop, out->start, &out->stop)) {
      return Overflow();
    }
    return Value::Object(Kind::kRange, std::move(out));
  }
  return TypeError(std::string("'") + TypeName(value) + "' cannot be sliced");
}

}  // namespace hadal::internal::jinja
