// Errors as values. The world (files, requests, flags, network) returns Result; a bug aborts
// through CHECK (base/check.h). No bytes from outside may reach a CHECK.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace hadal {

enum class Code : uint8_t {
  kInvalid,      // the caller's input is malformed
  kNotFound,     // no such file, tensor, key
  kIo,           // the operating system refused
  kCorrupt,      // a file lies about itself or is damaged
  kUnsupported,  // well-formed, but not something this program does
  kMemory,       // would not fit
  kLimit,        // a bound on time, depth, steps or size was reached
  kNetwork,      // the other side failed
  kNumeric,      // NaN or Inf where a number must be
  kCancelled,
};

// message: what, where, which value, and a hint. One line, no trailing period or newline.
struct Error {
  Code code = Code::kInvalid;
  std::string message;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit

  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<0>(v_); }
  const T& value() const& { return std::get<0>(v_); }
  T&& value() && { return std::get<0>(std::move(v_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { return std::get<1>(v_); }
  Error&& error() && { return std::get<1>(std::move(v_)); }

 private:
  std::variant<T, Error> v_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  void value() const {}
  const Error& error() const& { return error_; }
  Error&& error() && { return std::move(error_); }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace hadal

// TRY(expr): the value of a Result, or return its error from the enclosing function.
//   auto file = TRY(MappedFile::Open(path));
#define TRY(expr)                                            \
  ({                                                         \
    auto&& try_result_ = (expr);                             \
    if (!try_result_.ok()) {                                 \
      return ::hadal::Error(std::move(try_result_).error()); \
    }                                                        \
    std::move(try_result_).value();                          \
  })
