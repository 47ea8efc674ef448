// Views point, Buffers own (tensor/buffer.h). Views are trivially copyable and passed by value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/check.h"

namespace hadal {

template <typename T>
struct View1 {
  T* data = nullptr;
  int64_t size = 0;

  View1() = default;
  View1(T* d, int64_t n) : data(d), size(n) {}
  template <typename U>
  requires std::is_same_v<const U, T> View1(View1<U> other)
      : data(other.data), size(other.size) {}  // NOLINT: implicit

  T& operator[](int64_t i) const {
    DCHECK(i >= 0 && i < size);
    return data[i];
  }
  T* begin() const { return data; }
  T* end() const { return data + size; }
};

// Row-major; rows are contiguous, `stride` elements apart.
template <typename T>
struct View2 {
  T* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;

  View2() = default;
  View2(T* d, int64_t r, int64_t c) : View2(d, r, c, c) {}
  View2(T* d, int64_t r, int64_t c, int64_t s) : data(d), rows(r), cols(c), stride(s) {}
  template <typename U>
  requires std::is_same_v<const U, T> View2(View2<U> o)  // NOLINT: implicit
      : data(o.data), rows(o.rows), cols(o.cols), stride(o.stride) {}

  T* row(int64_t r) const {
    DCHECK(r >= 0 && r < rows);
    return data + r * stride;
  }
  View1<T> operator[](int64_t r) const { return {row(r), cols}; }
  View2 Rows(int64_t begin, int64_t count) const {
    DCHECK(begin >= 0 && begin + count <= rows);
    return {data + begin * stride, count, cols, stride};
  }
  View2 Cols(int64_t begin, int64_t count) const {
    DCHECK(begin >= 0 && begin + count <= cols);
    return {data + begin, rows, count, stride};
  }
};

}  // namespace hadal
