// a += b, element by element.
#pragma once

#include <cstdint>

namespace hadal::internal {

template <typename T>
void AddTo(T* __restrict a, const T* __restrict b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) a[i] += b[i];
}

}  // namespace hadal::internal
