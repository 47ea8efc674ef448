// Where kernels run: a thread pool, an instruction set, scratch memory per worker.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "tensor/buffer.h"

namespace hadal {

// kScalar is plain C++ for any machine and the slowest; every ISA gives the same bits.
enum class Isa { kScalar, kAvx2, kAvx512 };

std::string_view IsaName(Isa isa);  // "scalar", "avx2", "avx512"
std::vector<Isa> SupportedIsas();   // what this machine can run, slowest first
// The best supported one, or what the environment variable HADAL_ISA names; an unknown or
// unsupported name is an error that lists the valid ones.
Result<Isa> ChooseIsa();

class Exec {
 public:
  // threads <= 0: all usable physical cores.
  Exec(int threads, Isa isa);
  Exec(const Exec&) = delete;

  ThreadPool& pool() const { return *pool_; }
  int threads() const { return pool_->threads(); }
  Isa isa() const { return isa_; }
  // Scratch that belongs to one worker of the pool; a task resets it before use.
  Workspace& scratch(int worker) const { return *scratch_[static_cast<size_t>(worker)]; }
  // Scratch of whole-operation size (quantised activations and the like), used by the caller
  // thread between parallel regions; an operation takes after Mark() and releases at its end.
  Workspace& shared() const { return *shared_; }

 private:
  std::unique_ptr<ThreadPool> pool_;
  Isa isa_;
  std::vector<std::unique_ptr<Workspace>> scratch_;
  std::unique_ptr<Workspace> shared_;
};

}  // namespace hadal
