// `text % values` and text.format(...).
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

constexpr int64_t kMaxWidth = 100'000;  // beyond any use, and far from a memory attack

struct Spec {
  std::string fill = " ";
  char align = 0, sign = 0, type = 0;
  bool alternate = false, zero = false, comma = false;
  int64_t width = 0, precision = -1;
};

Error BadFormat(std::string_view what) { return {Code::kInvalid, "bad format: " + Brief(what)}; }

Result<int64_t> Number(std::string_view text, size_t* at) {
  int64_t value = 0;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') {
    value = value * 10 + (text[(*at)++] - '0');
    if (value > kMaxWidth) return Error{Code::kLimit, "a format wider than 100000"};
  }
  return value;
}

std::string IntegerDigits(int64_t value, char type, bool alternate) {
  const uint64_t magnitude =
      value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  const char* digits = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  uint64_t rest = magnitude;
  do {
    out.insert(out.begin(), digits[rest % base]);
    rest /= base;
  } while (rest != 0);
  if (alternate && base != 10) out = std::string("0") + type + out;
  return out;
}

std::string RealDigits(double value, const Spec& spec, char type) {
  const double magnitude = std::abs(value);
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  const int precision =
      spec.precision < 0 ? 6 : static_cast<int>(std::min<int64_t>(spec.precision, 400));
  const char format[] = {'%',
                         spec.alternate ? '#' : '.',
                         spec.alternate ? '.' : '*',
                         spec.alternate ? '*' : type,
                         spec.alternate ? type : '\0',
                         '\0'};
  char text[1024];
  std::snprintf(text, sizeof text, format, precision, type == '%' ? magnitude * 100 : magnitude);
  return text;
}

void Group(std::string* digits) {
  const size_t end = std::min(digits->find_first_not_of("0123456789"), digits->size());
  for (size_t at = end; at > 3; at -= 3) digits->insert(at - 3, ",");
}

std::string Signed(std::string digits, bool negative, const Spec& spec) {
  if (negative) return "-" + digits;
  return spec.sign ? spec.sign + digits : digits;
}

// Padding around a number: zeros go between sign and digits.
std::string PadNumber(std::string text, const Spec& spec) {
  const int64_t missing = spec.width - static_cast<int64_t>(CodePoints(text));
  if (missing <= 0 || !spec.zero || spec.align == '-') return text;
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
  const size_t prefix = text.size() > sign + 1 && text[sign] == '0' &&
                                std::isalpha(static_cast<unsigned char>(text[sign + 1]))
                            ? 2
                            : 0;
  return text.insert(sign + prefix, static_cast<size_t>(missing), '0');
}

void AddPadded(Builder* builder, const Value& text, const Spec& spec, char align) {
  const int64_t missing =
      std::max<int64_t>(spec.width - static_cast<int64_t>(CodePoints(text.text())), 0);
  const int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  for (int64_t i = 0; i < left; ++i) builder->Add(spec.fill, true);
  builder->Add(text);
  for (int64_t i = left; i < missing; ++i) builder->Add(spec.fill, true);
}

Result<std::string> NumberText(const Value& value, Spec* spec) {
  const char type = spec->type;
  const bool integral = type == 'd' || type == 'i' || type == 'u' || type == 'x' || type == 'X' ||
                        type == 'o' || type == 'b';
  if (!value.is_number()) {
    return TypeError(std::string("format %") + type + " takes a number, not " + TypeName(value));
  }
  if (!integral) {
    std::string digits = RealDigits(value.real(), *spec, type == '%' ? 'f' : type);
    if (type == '%') {
      Spec percent = *spec;
      digits = RealDigits(value.real() * 100, percent, 'f') + "%";
    }
    if (spec->comma) Group(&digits);
    if (!std::isfinite(value.real())) spec->zero = false;
    return PadNumber(
        Signed(std::move(digits), std::signbit(value.real()) && !std::isnan(value.real()), *spec),
        *spec);
  }
  if (value.is(Kind::kFloat) && (type != 'd' && type != 'i' && type != 'u')) {
    return TypeError(std::string("format %") + type + " takes an integer, not float");
  }
  const double real = value.real();
  if (value.is(Kind::kFloat) && !(std::abs(real) < 9.2e18)) {
    return Error{Code::kLimit, "an integer beyond 64 bits"};
  }
  const int64_t integer = value.is(Kind::kFloat) ? static_cast<int64_t>(real) : value.integer();
  std::string digits = IntegerDigits(integer, type, spec->alternate);
  if (spec->precision > static_cast<int64_t>(digits.size())) {
    digits.insert(0, static_cast<size_t>(spec->precision) - digits.size(), '0');
  }
  if (spec->comma) Group(&digits);
  return PadNumber(Signed(std::move(digits), integer < 0, *spec), *spec);
}

// One %-directive; `next` yields the arguments in order.
class Percent {
 public:
  Percent(Budget* budget, const Value& format, const Value& arguments)
      : budget_(budget), format_(format), arguments_(arguments), builder_(budget) {}
  Result<Value> Run();

 private:
  Result<Value> Next();
  Result<Spec> ParseSpec(size_t* at);
  Status Directive(size_t* at);
  Status Flags(std::string_view text, size_t* at, Spec* spec);

  Budget* budget_;
  const Value& format_;
  const Value& arguments_;
  Builder builder_;
  size_t used_ = 0;
  Value key_;  // %(name)s
};

Result<Value> Percent::Next() {
  if (!key_.is_missing()) return key_;
  if (arguments_.is(Kind::kTuple)) {
    const auto& items = arguments_.as<ListObject>().items;
    if (used_ < items.size()) return items[used_++];
  } else if (used_++ == 0) {
    return arguments_;
  }
  return TypeError("not enough arguments for the format string");
}

Status Percent::Flags(std::string_view text, size_t* at, Spec* spec) {
  for (; *at < text.size(); ++*at) {
    const char c = text[*at];
    if (c == '-')
      spec->align = '-';
    else if (c == '+')
      spec->sign = '+';
    else if (c == ' ')
      spec->sign = spec->sign ? spec->sign : ' ';
    else if (c == '#')
      spec->alternate = true;
    else if (c == '0')
      spec->zero = true;
    else
      break;
  }
  return {};
}

Result<Spec> Percent::ParseSpec(size_t* at) {
  const std::string_view text = format_.text();
  Spec spec;
  key_ = Value();
  if (*at < text.size() && text[*at] == '(') {
    const size_t close = text.find(')', *at);
    if (close == text.npos) return BadFormat("incomplete format key");
    if (!arguments_.is(Kind::kDict)) return TypeError("format requires a mapping");
    const std::string_view name = text.substr(*at + 1, close - *at - 1);
    const Value* found = arguments_.as<DictObject>().Find(name);
    if (!found) return TypeError("the format has no value for '" + Brief(name) + "'");
    key_ = *found;
    *at = close + 1;
  }
  TRY(Flags(text, at, &spec));
  const auto star_or_number = [&]() -> Result<int64_t> {
    if (*at >= text.size() || text[*at] != '*') return Number(text, at);
    ++*at;
    const Value value = TRY(Next());
    if (!value.is_integer()) return TypeError("* wants an integer");
    if (std::abs(value.real()) > kMaxWidth)
      return Error{Code::kLimit, "a format wider than 100000"};
    return value.integer();
  };
  spec.width = TRY(star_or_number());
  if (spec.width < 0) {
    spec.align = '-';
    spec.width = -spec.width;
  }
  if (*at < text.size() && text[*at] == '.') {
    ++*at;
    spec.precision = std::max<int64_t>(TRY(star_or_number()), 0);
  }
  while (*at < text.size() && (text[*at] == 'l' || text[*at] == 'h' || text[*at] == 'L')) ++*at;
  if (*at >= text.size()) return BadFormat("incomplete format");
  spec.type = text[(*at)++];
  return spec;
}

Status Percent::Directive(size_t* at) {
  Spec spec = TRY(ParseSpec(at));
  const char align = spec.align == '-' ? '<' : '>';
  if (spec.type == '%') {
    builder_.Add("%", true);
    return {};
  }
  if (std::string_view("srac").find(spec.type) != std::string_view::npos) {
    const Value value = TRY(Next());
    Value text;
    if (spec.type == 'c' && value.is_integer()) {
      const int64_t c = value.integer();
      if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return BadFormat("%c out of range");
      std::string one;
      AppendCodePoint(&one, static_cast<char32_t>(c));
      text = TRY(MakeString(budget_, one, false));
    } else if (spec.type == 'c' && (!value.is_string() || CodePoints(value.text()) != 1)) {
      return TypeError("%c requires one character");
    } else {
      text = spec.type == 's' || spec.type == 'c' ? TRY(ToString(budget_, value))
                                                  : TRY(Represent(budget_, value));
    }
    if (spec.precision >= 0 && spec.type != 'c') {
      text = text.Part(0, ByteOffset(text.text(), static_cast<size_t>(spec.precision)));
    }
    AddPadded(&builder_, text, spec, align);
    return {};
  }
  if (std::string_view("diuxXofFeEgG").find(spec.type) == std::string_view::npos) {
    return BadFormat("unsupported format character '" + std::string(1, spec.type) + "'");
  }
  const Value value = TRY(Next());
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  const Value text = TRY(MakeString(budget_, TRY(NumberText(value, &spec)), true));
  AddPadded(&builder_, text, spec, align);
  return {};
}

Result<Value> Percent::Run() {
  const std::string_view text = format_.text();
  for (size_t at = 0; at < text.size();) {
    TRY(budget_->Step());
    const size_t percent = std::min(text.find('%', at), text.size());
    builder_.Add(format_.Part(at, percent - at));
    at = percent + 1;
    if (percent < text.size()) TRY(Directive(&at));
    if (builder_.full()) break;
  }
  const bool leftover =
      arguments_.is(Kind::kTuple)
          ? used_ < arguments_.as<ListObject>().items.size()
          : used_ == 0 && !arguments_.is(Kind::kDict) && !arguments_.is(Kind::kList);
  if (leftover) return TypeError("not all arguments converted during string formatting");
  return builder_.Finish(format_.markup());
}

Result<Spec> ParseFieldSpec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  size_t after_fill = 0;
  if (!text.empty()) NextCodePoint(text, &after_fill);
  const auto is_align = [&](size_t i) {
    return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos;
  };
  if (is_align(after_fill) && after_fill > 0) {
    spec.fill = std::string(text.substr(0, after_fill));
    spec.align = text[after_fill];
    at = after_fill + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) {
    spec.sign = text[at] == '-' ? 0 : text[at];
    ++at;
  }
  if (at < text.size() && text[at] == '#') spec.alternate = ++at > 0;
  if (at < text.size() && text[at] == '0') spec.zero = ++at > 0;
  spec.width = TRY(Number(text, &at));
  if (at < text.size() && text[at] == ',') spec.comma = ++at > 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    spec.precision = TRY(Number(text, &at));
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) return BadFormat("invalid format specifier");
  return spec;
}

}  // namespace

Result<Value> PercentFormat(Budget* budget, const Value& format, const Value& arguments) {
  return Percent(budget, format, arguments).Run();
}

Result<Value> FormatField(Budget* budget, const Value& value, std::string_view text) {
  if (text.empty()) return ToString(budget, value);
  Spec spec = TRY(ParseFieldSpec(text));
  if (value.is_number() && !(value.is(Kind::kBool) && spec.type == 0)) {
    const bool real = value.is(Kind::kFloat);
    Value body;
    if (spec.type == 0 && real && spec.precision < 0) {
      Spec plain = spec;
      plain.width = 0;
      body = TRY(MakeString(
          budget,
          PadNumber(Signed(FloatText(std::abs(value.real())), std::signbit(value.real()), spec),
                    spec),
          true));
    } else {
      if (spec.type == 0) spec.type = real ? 'g' : 'd';
      if (std::string_view("dxXobeEfFgG%").find(spec.type) == std::string_view::npos ||
          (real && std::string_view("dxXob").find(spec.type) != std::string_view::npos)) {
        return BadFormat("unknown format code for a number");
      }
      if (spec.align == '=' || (spec.zero && spec.align == 0)) spec.zero = true;
      body = TRY(MakeString(budget, TRY(NumberText(value, &spec)), true));
    }
    Builder builder(budget);
    AddPadded(&builder, body, spec, spec.align == 0 || spec.align == '=' ? '>' : spec.align);
    return builder.Finish();
  }
  if (!value.is_string())
    return TypeError(std::string("unsupported format string for ") + TypeName(value));
  if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.sign || spec.comma) {
    return BadFormat("unknown format code for a string");
  }
  Value body = value;
  if (spec.precision >= 0) {
    body = value.Part(0, ByteOffset(value.text(), static_cast<size_t>(spec.precision)));
  }
  Builder builder(budget);
  if (spec.zero && spec.align == 0) spec.fill = "0";
  AddPadded(&builder, body, spec, spec.align == 0 ? '<' : spec.align);
  return builder.Finish();
}

namespace {

class Formatter {
 public:
  Formatter(Interpreter* in, const Value& format, const Args& args)
      : in_(in), format_(format), args_(args), builder_(in->budget()) {}
  Result<Value> Run();

 private:
  Status Field(std::string_view field);
  Result<Value> Lookup(std::string_view name);
  Result<Value> Base(std::string_view name);

  Interpreter* in_;
  const Value& format_;
  const Args& args_;
  Builder builder_;
  int64_t automatic_ = 0;
};

Result<Value> Formatter::Base(std::string_view name) {
  int64_t index = 0;
  if (name.empty()) {
    if (automatic_ < 0) return BadFormat("automatic and manual field numbering mixed");
    index = automatic_++;
  } else if (TextIs(name, "digit")) {
    if (automatic_ > 0) return BadFormat("automatic and manual field numbering mixed");
    automatic_ = -1;
    index = ParseInt(name, 10).value_or(INT64_MAX);
  } else {
    for (const auto& [given, value] : args_.named) {
      if (given == name) return value;
    }
    return TypeError("format: no argument '" + Brief(name) + "'");
  }
  if (index >= static_cast<int64_t>(args_.positional.size())) {
    return TypeError("format: not enough arguments");
  }
  return args_.positional[static_cast<size_t>(index)];
}

Result<Value> Formatter::Lookup(std::string_view name) {
  size_t at = std::min(name.find_first_of(".["), name.size());
  Value value = TRY(Base(name.substr(0, at)));
  while (at < name.size()) {
    TRY(in_->budget()->Step());
    const bool dot = name[at] == '.';
    const size_t end =
        dot ? std::min(name.find_first_of(".[", at + 1), name.size()) : name.find(']', at);
    if (end == name.npos) return BadFormat("missing ']' in a field");
    const std::string_view part = name.substr(at + 1, end - at - 1);
    if (part.empty()) return BadFormat("empty attribute in a field");
    if (dot) {
      value = TRY(in_->GetAttribute(value, part));
    } else if (TextIs(part, "digit")) {
      value = TRY(in_->GetItem(value, Value::Int(ParseInt(part, 10).value_or(INT64_MAX))));
    } else {
      value = TRY(in_->GetItem(value, ConstantString(part)));
    }
    at = dot ? end : end + 1;
  }
  return value;
}

Status Formatter::Field(std::string_view field) {
  const size_t colon = std::min(field.find(':'), field.size());
  std::string_view name = field.substr(0, colon);
  const std::string_view spec = colon < field.size() ? field.substr(colon + 1) : std::string_view();
  char conversion = 0;
  if (const size_t bang = name.find('!'); bang != name.npos) {
    if (bang + 2 != name.size()) return BadFormat("bad conversion in a field");
    conversion = name[bang + 1];
    name = name.substr(0, bang);
  }
  Value value = TRY(Lookup(name));
  if (conversion == 's') {
    value = TRY(ToString(in_->budget(), value));
  } else if (conversion == 'r') {
    value = TRY(Represent(in_->budget(), value));
  } else if (conversion != 0) {
    return BadFormat("unknown conversion in a field");
  }
  if (spec.find('{') != spec.npos) return BadFormat("nested fields are not supported");
  builder_.Add(TRY(FormatField(in_->budget(), value, spec)));
  return {};
}

Result<Value> Formatter::Run() {
  const std::string_view text = format_.text();
  for (size_t at = 0; at < text.size() && !builder_.full();) {
    TRY(in_->budget()->Step());
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    builder_.Add(format_.Part(at, brace - at));
    if (brace == text.size()) break;
    if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
      builder_.Add(format_.Part(brace, 1));
      at = brace + 2;
      continue;
    }
    const size_t close = text.find('}', brace);
    if (text[brace] == '}' || close == text.npos) return BadFormat("a single '{' or '}'");
    TRY(Field(text.substr(brace + 1, close - brace - 1)));
    at = close + 1;
  }
  return builder_.Finish(format_.markup());
}

}  // namespace

Result<Value> StrFormat(Interpreter* in, const Value& format, const Args& args) {
  return Formatter(in, format, args).Run();
}

}  // namespace hadal::internal::jinja
