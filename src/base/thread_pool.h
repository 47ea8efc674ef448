// One pool of pinned worker threads for the kernels. The caller is worker 0.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace hadal {

class ThreadPool {
 public:
  // threads <= 0: the physical cores that the process may use (affinity and cgroup quota).
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Runs body(task, worker) for every task in [0, tasks), tasks handed out dynamically, and returns
  // when all are done. `worker` < threads() names the scratch memory a body may use. Results must
  // not depend on which worker runs a task. Not reentrant; one caller at a time.
  // Between calls workers spin for about 100 us (a decode step has no longer gap), then sleep.
  template <typename Body>
  void For(int64_t tasks, const Body& body) {
    Run(
        tasks,
        [](const void* b, int64_t task, int worker) {
          (*static_cast<const Body*>(b))(task, worker);
        },
        &body);
  }

 private:
  using Invoke = void (*)(const void* body, int64_t task, int worker);
  void Run(int64_t tasks, Invoke invoke, const void* body);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Physical cores usable by this process: topology, affinity mask and cgroup CPU quota, at least 1.
int UsableCores();

}  // namespace hadal
