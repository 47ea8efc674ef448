// Moves bytes between ranks. The sums and their order are World's.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "comm/internal_launcher.h"

namespace hadal::internal {

// All calls come from the thread that started it. A partner that is gone ends the process.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Send and Receive begin a transfer, Wait() ends all that were begun; until then the bytes are
  // the transport's. Between two ranks messages arrive in the order in which they were sent, and
  // must have the length that the receiver expects. No message to oneself.
  virtual void Send(std::span<const std::byte> bytes, int to) = 0;
  virtual void Receive(std::span<std::byte> bytes, int from) = 0;
  virtual void Wait() = 0;

  // all: size() times the bytes of `mine`, which is as long on every rank; below 2 GiB in all.
  virtual void AllGather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  virtual void Broadcast(std::span<std::byte> bytes, int root) = 0;
  virtual void Barrier() = 0;
  // The ranks that give the same number, in order. All ranks call it.
  virtual std::unique_ptr<Transport> Split(int group) = 0;
  [[noreturn]] virtual void Abort(const std::string& message) = 0;
  virtual void Finish() = 0;
};

// Null for a process that no MPI launcher started.
Result<std::unique_ptr<Transport>> StartTransport(const Launcher& launcher);

}  // namespace hadal::internal
