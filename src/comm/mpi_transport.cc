#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/check.h"
#include "comm/internal_transport.h"

namespace hadal::internal {
namespace {

// MPI counts in int.
constexpr size_t kMaxMessage = size_t{1} << 30;

int Int(size_t n) {
  CHECK(n <= kMaxMessage * 2 - 1);
  return static_cast<int>(n);
}

[[noreturn]] void AbortJob(const std::string& message) {
  int rank = 0, size = 0, length = 0;
  char host[MPI_MAX_PROCESSOR_NAME + 1] = {};
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Get_processor_name(host, &length);
  std::fflush(stdout);
  std::fprintf(stderr, "hadal: rank %d of %d on %s: %s; the job ends\n", rank, size, host,
               message.c_str());
  std::fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::_Exit(1);
}

// MPI_Finalize waits for all ranks, so a rank that leaves with an error must not call it; and one
// that just exits is noticed by mpirun but not by every launcher.
void AbortIfUnfinished() {
  int started = 0, finished = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&finished);
  if (started && !finished) AbortJob("left the others before the end of the work");
}

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiTransport() override {
    int finished = 0;
    MPI_Finalized(&finished);
    if (comm_ != MPI_COMM_WORLD && !finished) MPI_Comm_free(&comm_);
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void Send(std::span<const std::byte> bytes, int to) override {
    size_t at = 0;
    do {  // an empty message is a message: lengths that differ are noticed
      const size_t n = std::min(kMaxMessage, bytes.size() - at);
      MPI_Isend(bytes.data() + at, Int(n), MPI_BYTE, to, 0, comm_, &Begin(kSend));
      at += n;
    } while (at < bytes.size());
  }
  void Receive(std::span<std::byte> bytes, int from) override {
    size_t at = 0;
    do {
      const size_t n = std::min(kMaxMessage, bytes.size() - at);
      MPI_Irecv(bytes.data() + at, Int(n), MPI_BYTE, from, 0, comm_,
                &Begin(static_cast<int64_t>(n)));
      at += n;
    } while (at < bytes.size());
  }
  void Wait() override;

  void AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    CHECK(all.size() == mine.size() * static_cast<size_t>(size_));
    Int(all.size());
    MPI_Allgather(mine.data(), Int(mine.size()), MPI_BYTE, all.data(), Int(mine.size()), MPI_BYTE,
                  comm_);
  }
  void Broadcast(std::span<std::byte> bytes, int root) override {
    for (size_t at = 0; at < bytes.size(); at += kMaxMessage) {
      const size_t n = std::min(kMaxMessage, bytes.size() - at);
      MPI_Bcast(bytes.data() + at, Int(n), MPI_BYTE, root, comm_);
    }
  }
  void Barrier() override { MPI_Barrier(comm_); }
  std::unique_ptr<Transport> Split(int group) override {
    MPI_Comm part = MPI_COMM_NULL;
    MPI_Comm_split(comm_, group, rank_, &part);
    return std::make_unique<MpiTransport>(part);
  }
  [[noreturn]] void Abort(const std::string& message) override { AbortJob(message); }
  void Finish() override {
    if (comm_ == MPI_COMM_WORLD) MPI_Finalize();
  }

 private:
  static constexpr int64_t kSend = -1;
  // expected: bytes to receive, or kSend.
  MPI_Request& Begin(int64_t expected) {
    expected_.push_back(expected);
    return requests_.emplace_back(MPI_REQUEST_NULL);
  }

  MPI_Comm comm_;
  int rank_ = 0, size_ = 1;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
  std::vector<int64_t> expected_;
};

void MpiTransport::Wait() {
  if (requests_.empty()) return;
  statuses_.resize(requests_.size());
  MPI_Waitall(Int(requests_.size()), requests_.data(), statuses_.data());
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (expected_[i] == kSend) continue;
    int got = 0;
    MPI_Get_count(&statuses_[i], MPI_BYTE, &got);
    if (got != expected_[i]) {
      AbortJob("rank " + std::to_string(statuses_[i].MPI_SOURCE) + " sent " + std::to_string(got) +
               " bytes where " + std::to_string(expected_[i]) + " were expected");
    }
  }
  requests_.clear();
  expected_.clear();
}

}  // namespace

Result<std::unique_ptr<Transport>> StartTransport(const Launcher& launcher) {
  if (!launcher.mpi) return std::unique_ptr<Transport>();
  int started = 0;
  MPI_Initialized(&started);
  if (started) {
    return Error{Code::kUnsupported, "MPI was started before; a process has one world in its life"};
  }
  int threads = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &threads) != MPI_SUCCESS) {
    return Error{Code::kUnsupported, "MPI does not start"};
  }
  auto transport = std::make_unique<MpiTransport>(MPI_COMM_WORLD);
  Error error{Code::kUnsupported, ""};
  if (threads < MPI_THREAD_FUNNELED) {
    error.message = "this MPI does not support threads; Hadal needs MPI_THREAD_FUNNELED";
  } else if (launcher.ranks > 0 && launcher.ranks != transport->size()) {
    error.message = launcher.name + " belongs to a job of " + std::to_string(launcher.ranks) +
                    " ranks, but MPI finds " + std::to_string(transport->size()) +
                    "; start with the mpirun of the MPI that this program was built with";
  }
  if (!error.message.empty()) {
    MPI_Finalize();
    return error;
  }
  std::atexit(AbortIfUnfinished);
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace hadal::internal
