// Values of the template language: Python's, as far as templates can see them. Strings know which
// of their bytes the template wrote.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tokenizer/chat_template.h"

namespace hadal::internal::jinja {

// What one rendering may use. Every loop and every copy charges it.
class Budget {
 public:
  explicit Budget(const TemplateLimits& limits);
  Status Step(uint64_t count = 1);
  Status Work(size_t bytes) { return Step(bytes / 64); }
  Status CheckBytes(uint64_t bytes) const;     // of one string
  Status CheckElements(uint64_t count) const;  // of one list
  const TemplateLimits& limits() const { return limits_; }
  void Hold(size_t bytes) { live_ += bytes; }
  void Release(size_t bytes) { live_ -= bytes; }

 private:
  TemplateLimits limits_;
  uint64_t steps_ = 0, next_clock_ = 0;
  uint64_t live_ = 0, max_live_;
  std::chrono::steady_clock::time_point start_;
};

enum class Kind : uint8_t {
  kMissing,  // an argument that was not given
  kUndefined,
  kNone,
  kBool,
  kInt,
  kBigInt,  // an integer input beyond 64 bits: printed, never computed with
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,  // dict.keys(), .values(), .items()
  kRange,
  kGenerator,
  kNamespace,
  kLoop,
  kMacro,
  kMethod,
  kFunction,
  kCycler,
  kJoiner,
};

// Containers deeper than this are refused, so destructors and printers may recurse.
inline constexpr uint32_t kMaxValueDepth = 400;

struct Object {
  virtual ~Object() = default;
  uint32_t depth = 1;
};

// Bytes shared by many strings, growing only at the end: `a + b` appends in place when `a` ends
// where the buffer ends, so building a text piece by piece is linear.
struct Buffer : Object {
  struct Run {
    size_t end;
    bool trusted;
  };
  ~Buffer() override;
  void Append(std::string_view text, bool trusted);
  void Charge();
  std::string bytes;
  std::vector<Run> runs;     // sorted; cover bytes
  Budget* budget = nullptr;  // null: part of the template, never appended to
  size_t charged = 0;
};

class Value {
 public:
  Value() = default;  // kMissing
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool b);
  static Value Int(int64_t i);
  static Value Float(double d);
  static Value Undefined(std::string message);
  static Value Object(Kind kind, std::shared_ptr<jinja::Object> object);
  static Value String(std::shared_ptr<Buffer> buffer, size_t begin, size_t size, bool markup);
  static Value Function(int id);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_missing() const { return kind_ == Kind::kMissing; }
  bool is_integer() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integer() || kind_ == Kind::kFloat; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool boolean() const { return int_ != 0; }
  int64_t integer() const { return int_; }
  double real() const { return kind_ == Kind::kFloat ? float_ : static_cast<double>(int_); }
  std::string_view text() const;  // a string's bytes (valid UTF-8), a big integer's digits
  bool markup() const { return markup_; }
  void set_markup(bool markup) { markup_ = markup; }
  bool trusted() const;  // every byte is the template's
  size_t begin() const { return begin_; }
  const Buffer& buffer() const { return static_cast<const Buffer&>(*object_); }
  Buffer& buffer() { return static_cast<Buffer&>(*object_); }
  const std::shared_ptr<jinja::Object>& object() const { return object_; }
  template <typename T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  uint32_t depth() const { return object_ ? object_->depth : 0; }
  std::string_view undefined_message() const;
  // Part of a string, sharing its bytes.
  Value Part(size_t begin, size_t size) const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  Kind kind_ = Kind::kMissing;
  bool markup_ = false;
  union {
    int64_t int_ = 0;
    double float_;
  };
  size_t begin_ = 0, size_ = 0;
  std::shared_ptr<jinja::Object> object_;
};

struct Message : Object {
  std::string text;
};

struct ListObject : Object {
  ~ListObject() override;
  std::vector<Value> items;
  Budget* budget = nullptr;
  size_t charged = 0;
};

struct DictObject : Object {
  ~DictObject() override;
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  void Set(const Value& key, Value value);
  std::vector<std::pair<Value, Value>> items;
  std::vector<uint32_t> slots;  // open addressing over items once they are many
  Budget* budget = nullptr;
  size_t charged = 0;

 private:
  template <typename Equal>
  size_t FindIndex(uint64_t hash, const Equal& equal) const;
  void Reindex();
};

struct ViewObject : Object {
  char which = 'k';  // keys, values, items
  Value dict;
};

struct RangeObject : Object {
  int64_t start = 0, stop = 0, step = 1;
  int64_t size() const;
};

// Filters that yield one by one: their items are computed at once, an error shows up when it
// would be reached, and they can be walked only once.
struct GeneratorObject : Object {
  std::vector<Value> items;
  size_t next = 0;
  bool failed = false;
  Error error;
};

struct NamespaceObject : Object {
  DictObject attributes;
};

struct MethodObject : Object {
  Value self;
  std::string name;
};

struct CyclerObject : Object {
  std::vector<Value> items;
  size_t position = 0;
};

struct JoinerObject : Object {
  Value separator;
  bool used = false;
};

// Appends pieces, keeping who wrote them; the limit on size is reported by Finish().
class Builder {
 public:
  explicit Builder(Budget* budget);
  void Add(const Value& string);
  void Add(std::string_view text, bool trusted);
  size_t size() const { return buffer_->bytes.size(); }
  bool full() const { return full_; }
  Result<Value> Finish(bool markup = false);

 private:
  Budget* budget_;
  std::shared_ptr<Buffer> buffer_;
  bool full_ = false;
};

Result<Value> MakeString(Budget* budget, std::string_view text, bool trusted);
Value ConstantString(std::string_view text);  // a literal of the template
Result<Value> MakeList(Budget* budget, std::vector<Value> items, Kind kind = Kind::kList);
Result<Value> MakeGenerator(Budget* budget, Result<std::vector<Value>> items);
Result<Value> MakeDict(Budget* budget, std::vector<std::pair<Value, Value>> items);
Result<Value> Concatenate(Budget* budget, const Value& a, const Value& b);

const char* TypeName(const Value& value);  // as Python names it
bool Truthy(const Value& value);
bool Hashable(const Value& value);
uint64_t HashOf(const Value& value);
bool Same(const Value& a, const Value& b);  // Python's `is`
Result<bool> Equal(Budget* budget, const Value& a, const Value& b);
Result<int> Order(Budget* budget, const Value& a, const Value& b);  // -1, 0, 1
// str() and repr().
Result<Value> ToString(Budget* budget, const Value& value);
Result<Value> Represent(Budget* budget, const Value& value);
Result<Value> ToJson(Budget* budget, const Value& value, const Value& options_indent,
                     const std::pair<std::string, std::string>* separators, bool ensure_ascii,
                     bool sort_keys);
// A JSON text as a value; strings under the top-level names in `trusted_names` are the template's.
Result<Value> FromJson(Budget* budget, std::string_view json,
                       const std::vector<std::string_view>& trusted_names);

Error TypeError(std::string message);

}  // namespace hadal::internal::jinja
