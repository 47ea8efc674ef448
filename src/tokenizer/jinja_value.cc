#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {

Error TypeError(std::string message) { return Error{Code::kInvalid, std::move(message)}; }

Budget::Budget(const TemplateLimits& limits)
    : limits_(limits),
      max_live_(4 * limits.max_output_bytes + (64 << 20)),
      start_(std::chrono::steady_clock::now()) {}

Status Budget::Step(uint64_t count) {
  steps_ += count;
  if (steps_ > limits_.max_steps) {
    return Error{Code::kLimit,
                 "more than " + std::to_string(limits_.max_steps) + " steps (endless template?)"};
  }
  if (live_ > max_live_) {
    return Error{Code::kLimit, "values hold more than " + std::to_string(max_live_) + " bytes"};
  }
  if (steps_ >= next_clock_) {
    next_clock_ = steps_ + 512;
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start_;
    if (spent.count() > limits_.max_seconds) {
      return Error{Code::kLimit, "ran longer than " + FloatText(limits_.max_seconds) + " seconds"};
    }
  }
  return {};
}

Status Budget::CheckBytes(uint64_t bytes) const {
  if (bytes <= limits_.max_output_bytes) return {};
  return Error{Code::kLimit,
               "a string of more than " + std::to_string(limits_.max_output_bytes) + " bytes"};
}

Status Budget::CheckElements(uint64_t count) const {
  if (count <= limits_.max_elements) return {};
  return Error{Code::kLimit,
               "a list of more than " + std::to_string(limits_.max_elements) + " elements"};
}

Buffer::~Buffer() {
  if (budget) budget->Release(charged);
}

void Buffer::Append(std::string_view text, bool trusted) {
  if (text.empty()) return;
  bytes.append(text);
  if (!runs.empty() && runs.back().trusted == trusted) {
    runs.back().end = bytes.size();
  } else {
    runs.push_back({bytes.size(), trusted});
  }
}

void Buffer::Charge() {
  if (!budget) return;
  const size_t now = sizeof(Buffer) + bytes.capacity() + runs.capacity() * sizeof(Run);
  budget->Hold(now - charged);
  charged = now;
}

Value Value::Bool(bool b) {
  Value v(Kind::kBool);
  v.int_ = b;
  return v;
}

Value Value::Int(int64_t i) {
  Value v(Kind::kInt);
  v.int_ = i;
  return v;
}

Value Value::Float(double d) {
  Value v(Kind::kFloat);
  v.float_ = d;
  return v;
}

Value Value::Undefined(std::string message) {
  auto object = std::make_shared<Message>();
  object->text = std::move(message);
  return Object(Kind::kUndefined, std::move(object));
}

Value Value::Object(Kind kind, std::shared_ptr<jinja::Object> object) {
  Value v(kind);
  v.object_ = std::move(object);
  return v;
}

Value Value::String(std::shared_ptr<Buffer> buffer, size_t begin, size_t size, bool markup) {
  Value v(Kind::kString);
  v.object_ = std::move(buffer);
  v.begin_ = begin;
  v.size_ = size;
  v.markup_ = markup;
  return v;
}

Value Value::Function(int id) {
  Value v(Kind::kFunction);
  v.int_ = id;
  return v;
}

std::string_view Value::text() const {
  if (!object_) return {};
  if (kind_ == Kind::kBigInt) return buffer().bytes;
  return std::string_view(buffer().bytes).substr(begin_, size_);
}

std::string_view Value::undefined_message() const { return as<Message>().text; }

Value Value::Part(size_t begin, size_t size) const {
  Value v = *this;
  v.begin_ += begin;
  v.size_ = size;
  return v;
}

namespace {

auto FirstRun(const Buffer& buffer, size_t begin) {
  return std::upper_bound(buffer.runs.begin(), buffer.runs.end(), begin,
                          [](size_t at, const Buffer::Run& run) { return at < run.end; });
}

}  // namespace

bool Value::trusted() const {
  if (kind_ != Kind::kString || size_ == 0) return true;
  for (auto run = FirstRun(buffer(), begin_); run != buffer().runs.end(); ++run) {
    if (!run->trusted) return false;
    if (run->end >= begin_ + size_) break;
  }
  return true;
}

ListObject::~ListObject() {
  if (budget) budget->Release(charged);
}

DictObject::~DictObject() {
  if (budget) budget->Release(charged);
}

namespace {

constexpr size_t kLinearDict = 8;
constexpr size_t kAbsent = ~size_t{0};

// Equality of dict keys: all kinds that hash.
bool KeyEqual(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) return a.integer() == b.integer();
    return a.real() == b.real();
  }
  if (a.kind() != b.kind()) return false;
  if (a.is_string() || a.is(Kind::kBigInt)) return a.text() == b.text();
  if (a.is(Kind::kNone) || a.is_undefined()) return true;
  if (!a.is(Kind::kTuple)) return Same(a, b);
  const auto& x = a.as<ListObject>().items;
  const auto& y = b.as<ListObject>().items;
  return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), KeyEqual);
}

}  // namespace

template <typename Equal>
size_t DictObject::FindIndex(uint64_t hash, const Equal& equal) const {
  if (slots.empty()) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (equal(items[i].first)) return i;
    }
    return kAbsent;
  }
  for (size_t at = hash & (slots.size() - 1);; at = (at + 1) & (slots.size() - 1)) {
    if (slots[at] == 0) return kAbsent;
    if (equal(items[slots[at] - 1].first)) return slots[at] - 1;
  }
}

const Value* DictObject::Find(const Value& key) const {
  const uint64_t hash = slots.empty() ? 0 : HashOf(key);
  const size_t i = FindIndex(hash, [&](const Value& other) { return KeyEqual(other, key); });
  return i == kAbsent ? nullptr : &items[i].second;
}

const Value* DictObject::Find(std::string_view key) const {
  const uint64_t hash = slots.empty() ? 0 : std::hash<std::string_view>()(key);
  const size_t i =
      FindIndex(hash, [&](const Value& other) { return other.is_string() && other.text() == key; });
  return i == kAbsent ? nullptr : &items[i].second;
}

void DictObject::Reindex() {
  size_t size = 4 * kLinearDict;
  while (size < 2 * items.size() + 2) size *= 2;
  slots.assign(size, 0);
  for (size_t i = 0; i < items.size(); ++i) {
    size_t at = HashOf(items[i].first) & (size - 1);
    while (slots[at] != 0) at = (at + 1) & (size - 1);
    slots[at] = static_cast<uint32_t>(i + 1);
  }
}

void DictObject::Set(const Value& key, Value value) {
  if (const Value* found = Find(key)) {
    *const_cast<Value*>(found) = std::move(value);
    return;
  }
  items.emplace_back(key, std::move(value));
  if (items.size() <= kLinearDict) return;
  if (slots.size() < 2 * items.size()) {
    Reindex();
    return;
  }
  size_t at = HashOf(key) & (slots.size() - 1);
  while (slots[at] != 0) at = (at + 1) & (slots.size() - 1);
  slots[at] = static_cast<uint32_t>(items.size());
}

int64_t RangeObject::size() const {
  // Unsigned differences cannot overflow.
  if (step > 0) {
    if (start >= stop) return 0;
    const uint64_t span = static_cast<uint64_t>(stop) - static_cast<uint64_t>(start) - 1;
    return static_cast<int64_t>(
               std::min<uint64_t>(span / static_cast<uint64_t>(step), INT64_MAX - 1)) +
           1;
  }
  if (start <= stop) return 0;
  const uint64_t span = static_cast<uint64_t>(start) - static_cast<uint64_t>(stop) - 1;
  const uint64_t stride = 0 - static_cast<uint64_t>(step);
  return static_cast<int64_t>(std::min<uint64_t>(span / stride, INT64_MAX - 1)) + 1;
}

Builder::Builder(Budget* budget) : budget_(budget), buffer_(std::make_shared<Buffer>()) {
  buffer_->budget = budget;
}

void Builder::Add(std::string_view text, bool trusted) {
  if (full_ || (budget_ && size() + text.size() > budget_->limits().max_output_bytes)) {
    full_ = true;
    return;
  }
  buffer_->Append(text, trusted);
}

void Builder::Add(const Value& string) {
  const std::string_view text = string.text();
  if (text.empty()) return;
  const Buffer& from = string.buffer();
  size_t at = 0;
  for (auto run = FirstRun(from, string.begin()); at < text.size(); ++run) {
    const size_t end = std::min(run->end - string.begin(), text.size());
    Add(text.substr(at, end - at), run->trusted);
    at = end;
  }
}

Result<Value> Builder::Finish(bool markup) {
  if (full_) return budget_->CheckBytes(budget_->limits().max_output_bytes + 1).error();
  buffer_->Charge();
  if (budget_) TRY(budget_->Work(size()));
  const size_t size = buffer_->bytes.size();
  return Value::String(std::move(buffer_), 0, size, markup);
}

Result<Value> MakeString(Budget* budget, std::string_view text, bool trusted) {
  Builder builder(budget);
  builder.Add(text, trusted);
  return builder.Finish();
}

Value ConstantString(std::string_view text) {
  auto buffer = std::make_shared<Buffer>();
  buffer->Append(text, true);
  return Value::String(std::move(buffer), 0, text.size(), false);
}

namespace {

Result<uint32_t> DepthOver(uint32_t inner) {
  if (inner >= kMaxValueDepth) {
    return Error{Code::kLimit,
                 "a value nested deeper than " + std::to_string(kMaxValueDepth) + " levels"};
  }
  return inner + 1;
}

}  // namespace

Result<Value> MakeList(Budget* budget, std::vector<Value> items, Kind kind) {
  TRY(budget->CheckElements(items.size()));
  TRY(budget->Step(1 + items.size() / 8));
  uint32_t depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  auto list = std::make_shared<ListObject>();
  list->depth = TRY(DepthOver(depth));
  list->items = std::move(items);
  list->budget = budget;
  list->charged = sizeof(ListObject) + list->items.capacity() * sizeof(Value);
  budget->Hold(list->charged);
  return Value::Object(kind, std::move(list));
}

Result<Value> MakeGenerator(Budget* budget, Result<std::vector<Value>> items) {
  auto generator = std::make_shared<GeneratorObject>();
  if (items.ok()) {
    TRY(budget->CheckElements(items->size()));
    uint32_t depth = 0;
    for (const Value& item : *items) depth = std::max(depth, item.depth());
    generator->depth = TRY(DepthOver(depth));
    generator->items = std::move(items).value();
  } else {
    if (items.error().code == Code::kLimit) return std::move(items).error();
    generator->failed = true;
    generator->error = std::move(items).error();
  }
  return Value::Object(Kind::kGenerator, std::move(generator));
}

Result<Value> MakeDict(Budget* budget, std::vector<std::pair<Value, Value>> items) {
  TRY(budget->CheckElements(items.size()));
  TRY(budget->Step(1 + items.size() / 4));
  auto dict = std::make_shared<DictObject>();
  uint32_t depth = 0;
  for (auto& [key, value] : items) {
    if (!Hashable(key)) return TypeError(std::string("unhashable type: '") + TypeName(key) + "'");
    depth = std::max({depth, value.depth(), key.depth()});
    dict->Set(key, std::move(value));
  }
  dict->depth = TRY(DepthOver(depth));
  dict->budget = budget;
  dict->charged = sizeof(DictObject) + dict->items.capacity() * 2 * sizeof(Value) +
                  dict->slots.capacity() * sizeof(uint32_t);
  budget->Hold(dict->charged);
  return Value::Object(Kind::kDict, std::move(dict));
}

Result<Value> Concatenate(Budget* budget, const Value& a, const Value& b) {
  TRY(budget->CheckBytes(a.text().size() + b.text().size()));
  if (b.text().empty() && a.markup() == b.markup()) return a;
  Buffer& buffer = static_cast<Buffer&>(*a.object());
  const bool at_end = a.begin() + a.text().size() == buffer.bytes.size();
  if (buffer.budget != budget || !at_end || a.object() == b.object()) {
    Builder builder(budget);
    builder.Add(a);
    builder.Add(b);
    return builder.Finish(a.markup());
  }
  TRY(budget->Work(b.text().size()));
  const std::string_view text = b.text();
  size_t at = 0;
  for (auto run = FirstRun(b.buffer(), b.begin()); at < text.size(); ++run) {
    const size_t end = std::min(run->end - b.begin(), text.size());
    buffer.Append(text.substr(at, end - at), run->trusted);
    at = end;
  }
  buffer.Charge();
  return a.Part(0, a.text().size() + text.size());
}

const char* TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
      return "missing";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
    case Kind::kBigInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      return "dict view";
    case Kind::kRange:
      return "range";
    case Kind::kGenerator:
      return "generator";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kLoop:
      return "loop";
    case Kind::kMacro:
      return "macro";
    case Kind::kMethod:
      return "method";
    case Kind::kFunction:
      return "function";
    case Kind::kCycler:
      return "cycler";
    case Kind::kJoiner:
      return "joiner";
  }
  return "?";
}

bool Truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.as<ListObject>().items.empty();
    case Kind::kDict:
      return !value.as<DictObject>().items.empty();
    case Kind::kView:
      return Truthy(value.as<ViewObject>().dict);
    case Kind::kRange:
      return value.as<RangeObject>().size() != 0;
    default:
      return true;
  }
}

bool Hashable(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
    case Kind::kDict:
    case Kind::kView:
      return false;
    case Kind::kTuple: {
      const auto& items = value.as<ListObject>().items;
      return std::all_of(items.begin(), items.end(), Hashable);
    }
    default:
      return true;
  }
}

uint64_t HashOf(const Value& value) {
  switch (value.kind()) {
    case Kind::kString:
    case Kind::kBigInt:
      return std::hash<std::string_view>()(value.text());
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<double>()(value.real());
    case Kind::kFloat:
      return std::hash<double>()(value.real());
    case Kind::kTuple: {
      uint64_t hash = 17;
      for (const Value& item : value.as<ListObject>().items) {
        hash = (hash ^ HashOf(item)) * 0x9E3779B97F4A7C15u;
      }
      return hash;
    }
    case Kind::kNone:
      return 3;
    default:
      return 5;
  }
}

bool Same(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kFunction:
      return a.integer() == b.integer();
    // Python keeps one object for small integers only; no template can rely on the others.
    case Kind::kInt:
      return a.integer() == b.integer();
    case Kind::kString:
      return a.text() == b.text();
    case Kind::kFloat:
      return a.real() == b.real();
    default:
      return a.object() == b.object();
  }
}

namespace {

Result<bool> EqualItems(Budget* budget, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!TRY(Equal(budget, a[i], b[i]))) return false;
  }
  return true;
}

Result<bool> EqualDicts(Budget* budget, const DictObject& a, const DictObject& b) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = b.Find(key);
    if (!other || !TRY(Equal(budget, value, *other))) return false;
  }
  return true;
}

}  // namespace

Result<bool> Equal(Budget* budget, const Value& a, const Value& b) {
  TRY(budget->Step());
  if (a.is_number() && b.is_number()) return KeyEqual(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kString:
      TRY(budget->Work(a.text().size()));
      return a.text() == b.text();
    case Kind::kBigInt:
      return a.text() == b.text();
    case Kind::kNone:
    case Kind::kUndefined:
      return true;
    case Kind::kList:
    case Kind::kTuple:
      return EqualItems(budget, a.as<ListObject>().items, b.as<ListObject>().items);
    case Kind::kDict:
      return EqualDicts(budget, a.as<DictObject>(), b.as<DictObject>());
    case Kind::kRange: {
      const auto& x = a.as<RangeObject>();
      const auto& y = b.as<RangeObject>();
      const int64_t n = x.size();
      if (n != y.size()) return false;
      return n == 0 || (x.start == y.start && (n == 1 || x.step == y.step));
    }
    default:
      return Same(a, b);
  }
}

Result<int> Order(Budget* budget, const Value& a, const Value& b) {
  TRY(budget->Step());
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) {
      return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
    }
    if (std::isnan(a.real()) || std::isnan(b.real())) return 2;
    return a.real() < b.real() ? -1 : a.real() > b.real() ? 1 : 0;
  }
  if (a.is_string() && b.is_string()) {
    TRY(budget->Work(std::min(a.text().size(), b.text().size())));
    const int order = a.text().compare(b.text());  // UTF-8 sorts like code points
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const auto& x = a.as<ListObject>().items;
    const auto& y = b.as<ListObject>().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!TRY(Equal(budget, x[i], y[i]))) return Order(budget, x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  for (const Value* v : {&a, &b}) {
    if (v->is_undefined()) return TypeError(std::string(v->undefined_message()));
  }
  return TypeError(std::string("cannot order ") + TypeName(a) + " and " + TypeName(b));
}

}  // namespace hadal::internal::jinja
