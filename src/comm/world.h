// The ranks of a job, and what they do together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/buffer.h"

namespace hadal {

namespace internal {
class Transport;
}

struct Range {
  int64_t begin = 0, end = 0;  // half-open
  int64_t size() const { return end - begin; }
};

// The part `index` of `parts` of [0, length): consecutive, covering all, each beginning at a
// multiple of `align`, sizes as even as that allows (some are empty where length is small). The
// boundaries of `parts` are among those of any multiple of `parts`.
Range ShardOf(int64_t length, int64_t align, int parts, int index);

// One process in a job of size() processes ("ranks"), carried by MPI; a process that no MPI
// launcher (mpirun, srun --mpi=pmix or pmi2) started, or a program built without MPI, is a world of
// one rank.
//
// Together  Every rank makes the same calls in the same order with the same lengths, from the
//           thread that called Start() (MPI_THREAD_FUNNELED). In a world of one a call that moves
//           data does nothing to it.
// Sums      go along the tree of comm/leaf_tree.h over ranks, so the same size() gives the same
//           bits on every run and rank, and N ranks that hold 2^m leaves each give the bits of one
//           rank that holds all N * 2^m. Integers are exact in any order.
// Failure   Calls do not return errors. When a rank dies, calls Abort() or leaves without Finish(),
//           MPI ends the whole job within seconds: blocked calls do not return, their process ends,
//           mpirun (srun) exits non-zero and names the rank or signal. A host that vanishes from
//           the network is noticed when the launcher's connection to it breaks (with Open MPI's
//           defaults minutes: oob_tcp_keepalive_time).
// Memory    a few MiB of scratch, taken at first use; size() > 1 only.
class World {
 public:
  // At most one multi-rank world in the life of a process. An error when the launcher and MPI do
  // not fit each other.
  static Result<std::unique_ptr<World>> Start();
  // Without Finish() the other ranks are ended when this process exits.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const;
  int size() const;
  bool alone() const { return size() == 1; }

  // The part of a vector of `length` that `rank` keeps.
  Range Shard(int64_t length, int64_t align, int rank) const {
    return ShardOf(length, align, size(), rank);
  }
  // Sums `data` over ranks: this rank's shard gets the sum, the rest is undefined afterwards.
  // Each rank receives and sends length * (size - 1) / size floats.
  void ReduceScatter(std::span<float> data, int64_t align);
  // Every rank's shard to every rank, in place.
  void AllGather(std::span<float> data, int64_t align);

  // Small vectors: each rank receives those of all.
  void AllReduce(std::span<double> values);   // sums
  void AllReduce(std::span<int64_t> values);  // sums
  void Max(std::span<double> values);         // a NaN of any rank is a NaN on all
  void Max(std::span<int64_t> values);

  void Broadcast(std::span<std::byte> bytes, int root);
  void Barrier();
  // The texts by rank on rank 0, nothing elsewhere.
  std::vector<std::string> GatherStrings(std::string_view text);

  // send[r] goes to rank r, receive[r] comes from it; send[rank()] is copied to receive[rank()].
  // Lengths may differ and be zero; each receiver's equals its sender's (exchange them first with
  // AllToAllCounts; a difference ends the job with a message). Nothing overlaps.
  using ConstFloats = std::span<const float>;
  using ConstInts = std::span<const int32_t>;
  void AllToAll(std::span<const ConstFloats> send, std::span<const std::span<float>> receive);
  void AllToAll(std::span<const ConstInts> send, std::span<const std::span<int32_t>> receive);
  // receive[r] = the number that rank r has for this rank.
  void AllToAllCounts(std::span<const int64_t> send, std::span<int64_t> receive);

  // The ranks that give the same number >= 0, in their order here, as a world of their own. All
  // ranks call this together. It ends with this one, and needs no Finish().
  std::unique_ptr<World> Split(int group);

  // Ends the job: prints "hadal: rank R of N on HOST: message" to stderr, exits with status 1.
  [[noreturn]] void Abort(const std::string& message);
  // All is done; waits for every rank. No calls afterwards but rank(), size(), Finish().
  void Finish();

 private:
  explicit World(std::unique_ptr<internal::Transport> transport);
  void ReduceAlongTree(std::span<float> data, int64_t align);
  void ReduceDirectly(std::span<float> data, int64_t align);
  float* Scratch(int64_t floats);

  std::unique_ptr<internal::Transport> transport_;  // null: a world of one
  int rank_ = 0, size_ = 1;
  Buffer scratch_;
};

}  // namespace hadal
