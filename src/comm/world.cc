#include "comm/world.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "comm/internal_add.h"
#include "comm/internal_transport.h"
#include "comm/leaf_tree.h"

namespace hadal {
namespace {

// Floats in a message of ReduceScatter. The pieces just received are added while they are in the
// second-level cache and the next are on their way.
constexpr int64_t kChunk = int64_t{128} << 10;

template <typename T>
std::span<const std::byte> Bytes(std::span<T> values) {
  return std::as_bytes(values);
}
template <typename T>
std::span<std::byte> MutableBytes(std::span<T> values) {
  return std::as_writable_bytes(values);
}

std::span<float> Part(std::span<float> data, Range range) {
  return data.subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
}

// At most `chunk` of a range, from `offset` within it.
Range Piece(Range whole, int64_t offset, int64_t chunk) {
  const int64_t begin = std::min(whole.begin + offset, whole.end);
  return {begin, std::min(begin + chunk, whole.end)};
}

// The values of all ranks, one rank's after the other's.
template <typename T>
std::vector<T> GatherAll(internal::Transport& transport, std::span<const T> values) {
  std::vector<T> all(values.size() * static_cast<size_t>(transport.size()));
  transport.AllGather(std::as_bytes(values), MutableBytes(std::span<T>(all)));
  return all;
}

template <typename T>
void MaxOver(internal::Transport& transport, std::span<T> values) {
  const std::vector<T> all = GatherAll<T>(transport, values);
  for (size_t i = 0; i < all.size(); ++i) {
    T& best = values[i % values.size()];
    // The negation lets a NaN in, and it stays.
    if (best == best && !(all[i] <= best)) best = all[i];
  }
}

template <typename T>
void Exchange(internal::Transport* transport, int rank, std::span<const std::span<const T>> send,
              std::span<const std::span<T>> receive) {
  const size_t size = transport == nullptr ? 1 : static_cast<size_t>(transport->size());
  const size_t self = static_cast<size_t>(rank);
  CHECK(send.size() == size && receive.size() == size);
  CHECK(send[self].size() == receive[self].size());
  // Partners in turn, so that ranks do not all begin with the same one.
  for (size_t step = 1; step < size; ++step) {
    const size_t to = (self + step) % size, from = (self + size - step) % size;
    transport->Receive(MutableBytes(receive[from]), static_cast<int>(from));
    transport->Send(Bytes(send[to]), static_cast<int>(to));
  }
  std::copy(send[self].begin(), send[self].end(), receive[self].begin());
  if (transport != nullptr) transport->Wait();
}

}  // namespace

Range ShardOf(int64_t length, int64_t align, int parts, int index) {
  CHECK(length >= 0 && align >= 1 && parts >= 1 && index >= 0 && index < parts);
  const int64_t units = (length + align - 1) / align;
  const auto boundary = [&](int64_t i) { return std::min(length, units * i / parts * align); };
  return {boundary(index), boundary(index + 1)};
}

Result<std::unique_ptr<World>> World::Start() {
  const internal::Launcher launcher =
      TRY(internal::ReadLauncher([](const char* name) { return std::getenv(name); }));
  return std::unique_ptr<World>(new World(TRY(internal::StartTransport(launcher))));
}

World::World(std::unique_ptr<internal::Transport> transport) : transport_(std::move(transport)) {
  if (transport_ == nullptr) return;
  rank_ = transport_->rank();
  size_ = transport_->size();
}

World::~World() = default;

int World::rank() const { return rank_; }
int World::size() const { return size_; }

float* World::Scratch(int64_t floats) {
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  if (scratch_.bytes() < bytes) scratch_ = Buffer(bytes);
  return scratch_.as<float>();
}

void World::ReduceScatter(std::span<float> data, int64_t align) {
  if (alone()) return;
  if (std::has_single_bit(static_cast<unsigned>(size_))) {
    ReduceAlongTree(data, align);
  } else {
    ReduceDirectly(data, align);
  }
}

// Recursive halving, nearest partner first: after the round at distance d a rank holds the sums
// over its group of 2d neighbours for the shards s with s = rank mod 2d.
void World::ReduceAlongTree(std::span<float> data, int64_t align) {
  const auto length = static_cast<int64_t>(data.size());
  float* const scratch = Scratch(2 * kChunk);
  struct Step {
    Range keep, give;
  };
  std::vector<Step> steps;
  for (int distance = 1; distance < size_; distance *= 2) {
    const int partner = rank_ ^ distance, stride = 2 * distance;
    steps.clear();
    for (int i = 0; i < size_; i += stride) {
      const Range keep = Shard(length, align, rank_ % stride + i);
      const Range give = Shard(length, align, partner % stride + i);
      for (int64_t at = 0; at < std::max(keep.size(), give.size()); at += kChunk) {
        steps.push_back({Piece(keep, at, kChunk), Piece(give, at, kChunk)});
      }
    }
    const auto received = [&](size_t i) {
      return std::span<float>(scratch + (i % 2 == 0 ? 0 : kChunk),
                              static_cast<size_t>(steps[i].keep.size()));
    };
    const auto begin = [&](size_t i) {
      transport_->Receive(MutableBytes(received(i)), partner);
      transport_->Send(Bytes(Part(data, steps[i].give)), partner);
    };
    if (!steps.empty()) begin(0);
    for (size_t i = 0; i < steps.size(); ++i) {
      transport_->Wait();
      if (i + 1 < steps.size()) begin(i + 1);
      internal::AddTo(data.data() + steps[i].keep.begin, received(i).data(), steps[i].keep.size());
    }
  }
}

// Any number of ranks: each gets all parts of its shard at once and sums them along the tree.
void World::ReduceDirectly(std::span<float> data, int64_t align) {
  const auto length = static_cast<int64_t>(data.size());
  const int64_t chunk = std::max<int64_t>(kChunk * 2 / size_, 4096);
  float* const scratch = Scratch(chunk * size_);
  int64_t longest = 0;
  for (int r = 0; r < size_; ++r) longest = std::max(longest, Shard(length, align, r).size());
  const auto self = static_cast<size_t>(rank_);
  std::vector<std::span<float>> parts(static_cast<size_t>(size_));
  for (int64_t at = 0; at < longest; at += chunk) {
    const Range keep = Piece(Shard(length, align, rank_), at, chunk);
    for (int r = 0; r < size_; ++r) {
      const auto i = static_cast<size_t>(r);
      parts[i] = r == rank_
                     ? Part(data, keep)
                     : std::span<float>(scratch + r * chunk, static_cast<size_t>(keep.size()));
      if (r == rank_) continue;
      transport_->Receive(MutableBytes(parts[i]), r);
      transport_->Send(Bytes(Part(data, Piece(Shard(length, align, r), at, chunk))), r);
    }
    transport_->Wait();
    TreeSum(parts);
    if (self != 0) std::copy(parts[0].begin(), parts[0].end(), parts[self].begin());
  }
}

// A ring: each rank hands on what it got last.
void World::AllGather(std::span<float> data, int64_t align) {
  if (alone()) return;
  const auto length = static_cast<int64_t>(data.size());
  const int to = (rank_ + 1) % size_, from = (rank_ + size_ - 1) % size_;
  for (int step = 0; step + 1 < size_; ++step) {
    const int have = (rank_ + size_ - step) % size_, get = (rank_ + size_ - step - 1) % size_;
    transport_->Receive(MutableBytes(Part(data, Shard(length, align, get))), from);
    transport_->Send(Bytes(Part(data, Shard(length, align, have))), to);
    transport_->Wait();
  }
}

void World::AllReduce(std::span<double> values) {
  if (alone() || values.empty()) return;
  std::vector<double> all = GatherAll<double>(*transport_, values);
  TreeSum(all, static_cast<int64_t>(values.size()), size_);
  std::copy_n(all.begin(), values.size(), values.begin());
}

void World::AllReduce(std::span<int64_t> values) {
  if (alone() || values.empty()) return;
  const std::vector<int64_t> all = GatherAll<int64_t>(*transport_, values);
  std::fill(values.begin(), values.end(), 0);
  for (size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
}

void World::Max(std::span<double> values) {
  if (!alone() && !values.empty()) MaxOver(*transport_, values);
}

void World::Max(std::span<int64_t> values) {
  if (!alone() && !values.empty()) MaxOver(*transport_, values);
}

void World::Broadcast(std::span<std::byte> bytes, int root) {
  CHECK(root >= 0 && root < size_);
  if (!alone()) transport_->Broadcast(bytes, root);
}

void World::Barrier() {
  if (!alone()) transport_->Barrier();
}

std::vector<std::string> World::GatherStrings(std::string_view text) {
  if (alone()) return {std::string(text)};
  const auto mine = static_cast<int64_t>(text.size());
  const std::vector<int64_t> sizes = GatherAll<int64_t>(*transport_, {&mine, 1});
  std::vector<std::string> texts;
  if (rank_ == 0) {
    texts.emplace_back(text);
    for (int r = 1; r < size_; ++r) texts.emplace_back(static_cast<size_t>(sizes[r]), '\0');
    for (int r = 1; r < size_; ++r) {
      transport_->Receive(MutableBytes(std::span<char>(texts[static_cast<size_t>(r)])), r);
    }
  } else {
    transport_->Send(std::as_bytes(std::span(text)), 0);
  }
  transport_->Wait();
  return texts;
}

void World::AllToAll(std::span<const ConstFloats> send, std::span<const std::span<float>> receive) {
  Exchange<float>(transport_.get(), rank_, send, receive);
}

void World::AllToAll(std::span<const ConstInts> send, std::span<const std::span<int32_t>> receive) {
  Exchange<int32_t>(transport_.get(), rank_, send, receive);
}

void World::AllToAllCounts(std::span<const int64_t> send, std::span<int64_t> receive) {
  std::vector<std::span<const int64_t>> out;
  std::vector<std::span<int64_t>> in;
  for (size_t r = 0; r < send.size(); ++r) {
    out.push_back(send.subspan(r, 1));
    in.push_back(receive.subspan(r, 1));
  }
  Exchange<int64_t>(transport_.get(), rank_, out, in);
}

std::unique_ptr<World> World::Split(int group) {
  CHECK(group >= 0);
  return std::unique_ptr<World>(new World(alone() ? nullptr : transport_->Split(group)));
}

void World::Abort(const std::string& message) {
  if (transport_ != nullptr) transport_->Abort(message);
  std::fflush(stdout);
  std::fprintf(stderr, "hadal: %s\n", message.c_str());
  std::exit(1);
}

void World::Finish() {
  if (transport_ == nullptr) return;
  transport_->Finish();
  transport_.reset();
}

}  // namespace hadal
