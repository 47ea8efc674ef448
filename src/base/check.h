// CHECK: a contract between our own functions is broken; print where and abort. Always on.
// DCHECK: the same in debug builds, for inner loops. Input from outside never reaches either.
#pragma once

namespace hadal::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression);
}  // namespace hadal::internal

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) [[unlikely]] {                                  \
      ::hadal::internal::CheckFailed(__FILE__, __LINE__, #condition); \
    }                                                                 \
  } while (0)

#ifdef NDEBUG
#define DCHECK(condition) \
  do {                    \
  } while (0)
#else
#define DCHECK(condition) CHECK(condition)
#endif
