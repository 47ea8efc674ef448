// Values as text: str(), repr(), JSON.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tokenizer/jinja_text.h"
#include "tokenizer/jinja_value.h"

namespace hadal::internal::jinja {
namespace {

// Collects text; trusted as long as every string in it is the template's.
class Printer {
 public:
  explicit Printer(Budget* budget) : budget_(budget) {}
  Status Write(std::string_view text) {
    out_.append(text);
    return budget_->CheckBytes(out_.size());
  }
  Status Represent(const Value& value, uint32_t depth);
  Status Json(const Value& value, uint32_t depth);
  Result<Value> Finish() { return MakeString(budget_, out_, trusted_); }

  bool ascii = false, sort_keys = false, indented = false;
  std::string indent, item_separator = ", ", key_separator = ": ";

 private:
  Status RepresentItems(const std::vector<Value>& items, uint32_t depth);
  Status RepresentDict(const DictObject& dict, uint32_t depth);
  Status RepresentView(const ViewObject& view, uint32_t depth);
  Status JsonString(std::string_view text);
  Status JsonList(const std::vector<Value>& items, uint32_t depth);
  Status JsonDict(const DictObject& dict, uint32_t depth);
  Status JsonKey(const Value& key);
  Status Line(uint32_t depth);
  Status Enter(uint32_t depth) {
    if (depth > kMaxValueDepth + 64) {
      return Error{Code::kLimit, "a value nested too deeply to print"};
    }
    return budget_->Step();
  }

  Budget* budget_;
  std::string out_;
  bool trusted_ = true;
};

std::string ScalarText(const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.boolean() ? "True" : "False";
    case Kind::kInt:
      return std::to_string(value.integer());
    case Kind::kBigInt:
      return std::string(value.text());
    case Kind::kFloat:
      return FloatText(value.real());
    case Kind::kUndefined:
      return "Undefined";
    default:
      return std::string("<") + TypeName(value) + ">";
  }
}

Status Printer::RepresentItems(const std::vector<Value>& items, uint32_t depth) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) TRY(Write(", "));
    TRY(Represent(items[i], depth + 1));
  }
  return {};
}

Status Printer::RepresentDict(const DictObject& dict, uint32_t depth) {
  TRY(Write("{"));
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) TRY(Write(", "));
    TRY(Represent(dict.items[i].first, depth + 1));
    TRY(Write(": "));
    TRY(Represent(dict.items[i].second, depth + 1));
  }
  return Write("}");
}

Status Printer::RepresentView(const ViewObject& view, uint32_t depth) {
  const auto& items = view.dict.as<DictObject>().items;
  TRY(Write(view.which == 'k'   ? "dict_keys(["
            : view.which == 'v' ? "dict_values(["
                                : "dict_items(["));
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) TRY(Write(", "));
    if (view.which == 'i') TRY(Write("("));
    if (view.which != 'v') TRY(Represent(items[i].first, depth + 1));
    if (view.which == 'i') TRY(Write(", "));
    if (view.which != 'k') TRY(Represent(items[i].second, depth + 1));
    if (view.which == 'i') TRY(Write(")"));
  }
  return Write("])");
}

Status Printer::Represent(const Value& value, uint32_t depth) {
  TRY(Enter(depth));
  switch (value.kind()) {
    case Kind::kString:
      trusted_ = trusted_ && value.trusted();
      TRY(budget_->Work(value.text().size()));
      if (value.markup()) TRY(Write("Markup("));
      TRY(Write(Quote(value.text())));
      return value.markup() ? Write(")") : Status();
    case Kind::kList:
      TRY(Write("["));
      TRY(RepresentItems(value.as<ListObject>().items, depth));
      return Write("]");
    case Kind::kTuple:
      TRY(Write("("));
      TRY(RepresentItems(value.as<ListObject>().items, depth));
      return Write(value.as<ListObject>().items.size() == 1 ? ",)" : ")");
    case Kind::kDict:
      return RepresentDict(value.as<DictObject>(), depth);
    case Kind::kView:
      return RepresentView(value.as<ViewObject>(), depth);
    case Kind::kNamespace:
      TRY(Write("<Namespace "));
      TRY(RepresentDict(value.as<NamespaceObject>().attributes, depth));
      return Write(">");
    case Kind::kRange: {
      const auto& range = value.as<RangeObject>();
      std::string text = "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop);
      if (range.step != 1) text += ", " + std::to_string(range.step);
      return Write(text + ")");
    }
    default:
      return Write(ScalarText(value));
  }
}

// The next byte that JSON must escape.
bool JsonPlain(unsigned char c, bool ascii) {
  return c >= 0x20 && c != '"' && c != '\\' && (!ascii || c < 0x7F);
}

void AppendJsonEscape(std::string* out, char32_t c) {
  char text[16];
  switch (c) {
    case '"':
      out->append("\\\"");
      return;
    case '\\':
      out->append("\\\\");
      return;
    case '\n':
      out->append("\\n");
      return;
    case '\r':
      out->append("\\r");
      return;
    case '\t':
      out->append("\\t");
      return;
    case '\f':
      out->append("\\f");
      return;
    case '\b':
      out->append("\\b");
      return;
    default:
      break;
  }
  if (c >= 0x10000) {
    const unsigned v = static_cast<unsigned>(c) - 0x10000;
    std::snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
  } else {
    std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(c));
  }
  out->append(text);
}

Status Printer::JsonString(std::string_view text) {
  TRY(budget_->Work(text.size()));
  TRY(Write("\""));
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && JsonPlain(static_cast<unsigned char>(text[end]), ascii)) ++end;
    TRY(Write(text.substr(at, end - at)));
    at = end;
    if (at < text.size()) AppendJsonEscape(&out_, NextCodePoint(text, &at));
  }
  return Write("\"");
}

Status Printer::Line(uint32_t depth) {
  if (!indented) return {};
  TRY(budget_->CheckBytes(out_.size() + uint64_t{depth} * indent.size()));
  TRY(Write("\n"));
  for (uint32_t i = 0; i < depth; ++i) TRY(Write(indent));
  return budget_->Work(uint64_t{depth} * indent.size());
}

Status Printer::JsonList(const std::vector<Value>& items, uint32_t depth) {
  if (items.empty()) return Write("[]");
  TRY(Write("["));
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) TRY(Write(item_separator));
    TRY(Line(depth + 1));
    TRY(Json(items[i], depth + 1));
  }
  TRY(Line(depth));
  return Write("]");
}

Status Printer::JsonKey(const Value& key) {
  switch (key.kind()) {
    case Kind::kString:
      trusted_ = trusted_ && key.trusted();
      return JsonString(key.text());
    case Kind::kNone:
      return Write("\"null\"");
    case Kind::kBool:
      return Write(key.boolean() ? "\"true\"" : "\"false\"");
    case Kind::kInt:
    case Kind::kBigInt:
    case Kind::kFloat:
      return Write("\"" + ScalarText(key) + "\"");
    default:
      return TypeError(std::string("keys of a JSON object must be strings or numbers, not ") +
                       TypeName(key));
  }
}

Status Printer::JsonDict(const DictObject& dict, uint32_t depth) {
  if (dict.items.empty()) return Write("{}");
  std::vector<const std::pair<Value, Value>*> items;
  for (const auto& item : dict.items) items.push_back(&item);
  if (sort_keys) {
    Status status;
    std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) {
      if (!status.ok()) return false;
      const auto order = Order(budget_, a->first, b->first);
      if (!order.ok()) status = order.error();
      return order.ok() && *order == -1;
    });
    TRY(std::move(status));
  }
  TRY(Write("{"));
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) TRY(Write(item_separator));
    TRY(Line(depth + 1));
    TRY(JsonKey(items[i]->first));
    TRY(Write(key_separator));
    TRY(Json(items[i]->second, depth + 1));
  }
  TRY(Line(depth));
  return Write("}");
}

Status Printer::Json(const Value& value, uint32_t depth) {
  TRY(Enter(depth));
  switch (value.kind()) {
    case Kind::kString:
      trusted_ = trusted_ && value.trusted();
      return JsonString(value.text());
    case Kind::kNone:
      return Write("null");
    case Kind::kBool:
      return Write(value.boolean() ? "true" : "false");
    case Kind::kInt:
    case Kind::kBigInt:
      return Write(ScalarText(value));
    case Kind::kFloat:
      if (std::isnan(value.real())) return Write("NaN");
      if (std::isinf(value.real())) return Write(value.real() < 0 ? "-Infinity" : "Infinity");
      return Write(ScalarText(value));
    case Kind::kList:
    case Kind::kTuple:
      return JsonList(value.as<ListObject>().items, depth);
    case Kind::kDict:
      return JsonDict(value.as<DictObject>(), depth);
    default:
      return TypeError(std::string("a value of type ") + TypeName(value) +
                       " cannot be written as JSON" +
                       (value.is_undefined() ? ": " + Brief(value.undefined_message()) : ""));
  }
}

// Builds values while the JSON parser reads, so no second tree exists and depth is bounded.
class JsonReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonReader(Budget* budget, const std::vector<std::string_view>& trusted)
      : budget_(budget), trusted_names_(trusted) {}
  Status status;
  Value result;

  bool null() override { return Put(Value::None()); }
  bool boolean(bool b) override { return Put(Value::Bool(b)); }
  bool number_integer(int64_t i) override { return Put(Value::Int(i)); }
  bool number_unsigned(uint64_t u) override {
    if (u <= INT64_MAX) return Put(Value::Int(static_cast<int64_t>(u)));
    return BigInteger(std::to_string(u));
  }
  bool number_float(double d, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) return BigInteger(text);
    return Put(Value::Float(d));
  }
  bool string(std::string& text) override { return PutResult(Text(text, IsTrusted())); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(true); }
  bool key(std::string& text) override {
    auto value = Text(text, false);
    if (!value.ok()) return Fail(value.error());
    open_.back().key = std::move(value).value();
    return true;
  }
  bool end_object() override {
    auto items = std::move(open_.back().members);
    open_.pop_back();
    return PutResult(MakeDict(budget_, std::move(items)));
  }
  bool start_array(size_t) override { return Open(false); }
  bool end_array() override {
    auto items = std::move(open_.back().items);
    open_.pop_back();
    return PutResult(MakeList(budget_, std::move(items)));
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The library's own prefix ("[json.exception...]") tells a reader nothing.
    std::string what = error.what();
    const size_t colon = what.find("] ");
    return Fail({Code::kInvalid, "inputs: byte " + std::to_string(position) + ": " +
                                     Brief(colon == what.npos ? what : what.substr(colon + 2))});
  }

 private:
  struct Level {
    bool object;
    Value key;
    std::vector<std::pair<Value, Value>> members;
    std::vector<Value> items;
  };

  bool Fail(Error error) {
    if (status.ok()) status = std::move(error);
    return false;
  }
  bool BigInteger(const std::string& digits) {
    auto text = MakeString(budget_, digits, false);
    if (!text.ok()) return Fail(text.error());
    return Put(Value::Object(Kind::kBigInt, text->object()));
  }
  bool IsTrusted() const {
    return open_.size() == 1 && open_[0].object &&
           std::find(trusted_names_.begin(), trusted_names_.end(), open_[0].key.text()) !=
               trusted_names_.end();
  }
  Result<Value> Text(std::string_view text, bool trusted) {
    return MakeString(budget_, text, trusted);
  }
  bool Open(bool object) {
    if (open_.size() >= kMaxValueDepth - 1) {
      return Fail({Code::kLimit,
                   "inputs: nested deeper than " + std::to_string(kMaxValueDepth - 1) + " levels"});
    }
    open_.push_back({object, Value(), {}, {}});
    return true;
  }
  bool PutResult(Result<Value> value) {
    if (!value.ok()) return Fail(value.error());
    return Put(std::move(value).value());
  }
  bool Put(Value value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (open_.back().object) {
      open_.back().members.emplace_back(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Budget* budget_;
  const std::vector<std::string_view>& trusted_names_;
  std::vector<Level> open_;
};

}  // namespace

Result<Value> ToString(Budget* budget, const Value& value) {
  if (value.is_string()) {
    Value plain = value;
    plain.set_markup(false);
    return plain;
  }
  if (value.is_undefined()) return MakeString(budget, "", true);
  return Represent(budget, value);
}

Result<Value> Represent(Budget* budget, const Value& value) {
  Printer printer(budget);
  TRY(printer.Represent(value, 0));
  return printer.Finish();
}

Result<Value> ToJson(Budget* budget, const Value& value, const Value& options_indent,
                     const std::pair<std::string, std::string>* separators, bool ensure_ascii,
                     bool sort_keys) {
  Printer printer(budget);
  printer.ascii = ensure_ascii;
  printer.sort_keys = sort_keys;
  if (options_indent.is_string()) {
    printer.indented = true;
    printer.indent = std::string(options_indent.text());
  } else if (options_indent.is_integer()) {
    printer.indented = true;
    const int64_t width = std::max<int64_t>(options_indent.integer(), 0);
    TRY(budget->CheckBytes(static_cast<uint64_t>(width)));
    printer.indent.assign(static_cast<size_t>(width), ' ');
  }
  if (printer.indented) printer.item_separator = ",";
  if (separators) {
    printer.item_separator = separators->first;
    printer.key_separator = separators->second;
  }
  TRY(printer.Json(value, 0));
  return printer.Finish();
}

Result<Value> FromJson(Budget* budget, std::string_view json,
                       const std::vector<std::string_view>& trusted_names) {
  JsonReader reader(budget, trusted_names);
  const bool whole = nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  TRY(std::move(reader.status));
  if (!whole) return Error{Code::kInvalid, "inputs: not JSON"};
  return reader.result;
}

}  // namespace hadal::internal::jinja
