// Buffer owns memory; Arena lends it for good, Workspace for one step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "tensor/view.h"

namespace hadal {

// Move-only block of memory aligned to 64 bytes; blocks of 2 MiB and more ask for huge pages.
// Contents start as zero. Aborts when the system has no memory: sizes that come from outside are
// checked against a plan before they get here.
class Buffer {
 public:
  // When the system gives a large block its pages: at once, which keeps page faults out of steps,
  // or as each is touched.
  enum class Pages : uint8_t { kNow, kWhenTouched };

  Buffer() = default;
  explicit Buffer(size_t bytes, Pages pages = Pages::kNow);
  Buffer(Buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~Buffer();

  size_t bytes() const { return bytes_; }
  std::byte* data() const { return data_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// Lends blocks that live as long as it does: zero, aligned to 64 bytes. Those too small for huge
// pages of their own share them: pages of 4 KiB would cost a fault each to fill and stop the
// hardware's prefetching at each end.
class Arena {
 public:
  std::byte* Take(size_t bytes);

 private:
  std::vector<Buffer> blocks_;
  std::byte* next_ = nullptr;  // in the newest of the shared blocks
  size_t left_ = 0;
};

// Bump arena. Take() hands out 64-byte aligned memory that lives until Reset(). When a step needs
// more than it holds the arena grows by a further slab; Reset() then merges the slabs to what was
// taken at most, so a steady state allocates nothing.
class Workspace {
 public:
  explicit Workspace(size_t initial_bytes = 0);

  template <typename T>
  T* Take(int64_t count) {
    return static_cast<T*>(TakeBytes(static_cast<size_t>(count) * sizeof(T)));
  }
  View2<float> Matrix(int64_t rows, int64_t cols) { return {Take<float>(rows * cols), rows, cols}; }
  void Reset();
  size_t capacity() const;
  // The pieces it holds and how much of each is taken.
  std::span<const Buffer> slabs() const { return slabs_; }
  size_t used(size_t slab) const {
    return slab < slab_ ? filled_[slab] : slab == slab_ ? used_ : 0;
  }

  // Memory taken after Mark() is given back by Release(mark).
  struct Position {
    size_t slab, used;
  };
  Position Mark() const { return {slab_, used_}; }
  void Release(Position p) {
    for (; slab_ > p.slab; --slab_) before_ -= filled_[slab_ - 1];
    used_ = p.used;
  }

 private:
  void* TakeBytes(size_t bytes);
  std::vector<Buffer> slabs_;
  std::vector<size_t> filled_;  // how far each slab was taken when the next one was begun
  size_t slab_ = 0, used_ = 0;
  size_t before_ = 0, most_ = 0;  // taken in the slabs before this one; in all, at most
};

}  // namespace hadal
