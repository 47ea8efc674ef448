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

// Whole huge pages where that costs little memory.
size_t MappedBytes(size_t bytes) {
  constexpr size_t kPage = 4096;
  return RoundUp(bytes, bytes >= 16 * kHugePage ? kHugePage : kPage);
}

}  // namespace

// Large blocks come straight from the system: their pages are zero already.
Buffer::Buffer(size_t bytes, Pages pages) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes < kHugePage) {
    const size_t size = RoundUp(bytes, kAlign);
    data_ = static_cast<std::byte*>(std::aligned_alloc(kAlign, size));
    CHECK(data_ != nullptr);
    std::memset(data_, 0, size);
    return;
  }
  const size_t size = MappedBytes(bytes);
  void* raw =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(raw != MAP_FAILED);
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const size_t lead = RoundUp(begin, kHugePage) - begin;
  data_ = static_cast<std::byte*>(raw) + lead;
  if (lead > 0) munmap(raw, lead);
  if (lead < kHugePage) munmap(data_ + size, kHugePage - lead);
  madvise(data_, size, MADV_HUGEPAGE);
  if (pages == Pages::kWhenTouched) return;
  if (madvise(data_, size, MADV_POPULATE_WRITE) != 0) std::memset(data_, 0, size);
}

Buffer::~Buffer() {
  if (bytes_ < kHugePage) {
    std::free(data_);
  } else {
    munmap(data_, MappedBytes(bytes_));
  }
}

std::byte* Arena::Take(size_t bytes) {
  constexpr size_t kShared = 16 * kHugePage;
  bytes = RoundUp(std::max<size_t>(bytes, 1), kAlign);
  if (bytes >= kHugePage) return blocks_.emplace_back(bytes).data();
  if (bytes > left_) {
    next_ = blocks_.emplace_back(kShared, Buffer::Pages::kWhenTouched).data();
    left_ = kShared;
  }
  left_ -= bytes;
  return std::exchange(next_, next_ + bytes);
}

Workspace::Workspace(size_t initial_bytes) {
  if (initial_bytes > 0) slabs_.emplace_back(initial_bytes);
  filled_.resize(slabs_.size());
}

void* Workspace::TakeBytes(size_t bytes) {
  bytes = RoundUp(std::max<size_t>(bytes, 1), kAlign);
  while (slab_ < slabs_.size() && used_ + bytes > slabs_[slab_].bytes()) {
    filled_[slab_++] = used_;
    before_ += used_;
    used_ = 0;
  }
  if (slab_ == slabs_.size()) {
    // What is large comes alone; small things share.
    constexpr size_t kLeastSlab = size_t{64} << 10, kMostGrowth = size_t{1} << 20;
    slabs_.emplace_back(std::max(bytes, std::clamp(capacity() / 4, kLeastSlab, kMostGrowth)));
    filled_.push_back(0);
  }
  void* memory = slabs_[slab_].data() + used_;
  used_ += bytes;
  most_ = std::max(most_, before_ + used_);
  return memory;
}

void Workspace::Reset() {
  if (slabs_.size() > 1) {
    slabs_.clear();
    slabs_.emplace_back(most_);
    filled_.resize(1);
  }
  slab_ = used_ = before_ = 0;
}

size_t Workspace::capacity() const {
  size_t total = 0;
  for (const Buffer& slab : slabs_) total += slab.bytes();
  return total;
}

}  // namespace hadal
