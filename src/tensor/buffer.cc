#include "tensor/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace hadal {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

// Large blocks come straight from the system: their pages are zero already, and asking for all of
// them at once keeps page faults out of steps.
Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes < kHugePage) {
    const size_t size = RoundUp(bytes, kAlign);
    data_ = static_cast<std::byte*>(std::aligned_alloc(kAlign, size));
    CHECK(data_ != nullptr);
    std::memset(data_, 0, size);
    return;
  }
  const size_t size = RoundUp(bytes, kHugePage);
  void* raw =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(raw != MAP_FAILED);
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const size_t lead = RoundUp(begin, kHugePage) - begin;
  data_ = static_cast<std::byte*>(raw) + lead;
  if (lead > 0) munmap(raw, lead);
  if (lead < kHugePage) munmap(data_ + size, kHugePage - lead);
  madvise(data_, size, MADV_HUGEPAGE);
  if (madvise(data_, size, MADV_POPULATE_WRITE) != 0) std::memset(data_, 0, size);
}

Buffer::~Buffer() {
  if (bytes_ < kHugePage) {
    std::free(data_);
  } else {
    munmap(data_, RoundUp(bytes_, kHugePage));
  }
}

Workspace::Workspace(size_t initial_bytes) {
  if (initial_bytes > 0) slabs_.emplace_back(initial_bytes);
}

void* Workspace::TakeBytes(size_t bytes) {
  bytes = RoundUp(std::max<size_t>(bytes, 1), kAlign);
  while (slab_ < slabs_.size()) {
    if (used_ + bytes <= slabs_[slab_].bytes()) {
      void* memory = slabs_[slab_].data() + used_;
      used_ += bytes;
      return memory;
    }
    ++slab_;
    used_ = 0;
  }
  slabs_.emplace_back(std::max(bytes, capacity()));
  slab_ = slabs_.size() - 1;
  used_ = bytes;
  return slabs_[slab_].data();
}

void Workspace::Reset() {
  if (slabs_.size() > 1) {
    const size_t total = capacity();
    slabs_.clear();
    slabs_.emplace_back(total);
  }
  slab_ = used_ = 0;
}

size_t Workspace::capacity() const {
  size_t total = 0;
  for (const Buffer& slab : slabs_) total += slab.bytes();
  return total;
}

}  // namespace hadal
