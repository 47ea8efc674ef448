#include "train/expert_parallel.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "base/check.h"

namespace hadal {
namespace {

// Consecutive parts of `all`, sizes[i] * width long.
template <typename T>
std::vector<std::span<T>> Cut(std::span<T> all, std::span<const int64_t> sizes, int64_t width) {
  std::vector<std::span<T>> parts;
  size_t at = 0;
  for (const int64_t size : sizes) {
    const auto n = static_cast<size_t>(size * width);
    parts.push_back(all.subspan(at, n));
    at += n;
  }
  CHECK(at == all.size());
  return parts;
}

template <typename T>
std::span<T> Flat(View2<T> m) {
  CHECK(m.rows == 0 || m.stride == m.cols);
  return {m.data, static_cast<size_t>(m.rows * m.cols)};
}

}  // namespace

Result<std::unique_ptr<ExpertParallel>> ExpertParallel::Create(World& world, int64_t ranks) {
  if (ranks < 1 || world.size() % ranks != 0) {
    return Error{Code::kInvalid,
                 fmt::format("expert_parallel = {} does not divide {} rank{}; start a multiple of "
                             "it, or set expert_parallel = 1",
                             ranks, world.size(), world.size() == 1 ? "" : "s")};
  }
  const auto size = static_cast<int>(ranks);
  return std::unique_ptr<ExpertParallel>(
      new ExpertParallel(world.Split(world.rank() / size), world.Split(world.rank() % size)));
}

void ExpertParallel::Counts(std::span<const int32_t> send, std::span<int32_t> receive) {
  const std::vector<int64_t> sizes(static_cast<size_t>(group_->size()),
                                   static_cast<int64_t>(send.size()) / group_->size());
  group_->AllToAll(Cut(send, sizes, 1), Cut(receive, sizes, 1));
}

void ExpertParallel::Rows(View2<const float> send, std::span<const int64_t> send_rows,
                          View2<float> receive, std::span<const int64_t> receive_rows) {
  group_->AllToAll(Cut(Flat(send), send_rows, send.cols),
                   Cut(Flat(receive), receive_rows, receive.cols));
}

}  // namespace hadal
