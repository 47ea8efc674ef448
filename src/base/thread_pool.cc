#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hadal {
namespace {

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// The processors this process may run on, the first hardware thread of each core first.
struct Processors {
  std::vector<int> order;
  int cores = 0;
};

Processors FindProcessors() {
  Processors found;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::vector<int> siblings;
  std::set<std::pair<int, int>> seen;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &mask)) continue;
      const std::string topology =
          "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      int core = cpu, package = 0;
      std::ifstream(topology + "core_id") >> core;
      std::ifstream(topology + "physical_package_id") >> package;
      (seen.insert({package, core}).second ? found.order : siblings).push_back(cpu);
    }
  }
  found.cores = std::max<int>(1, static_cast<int>(found.order.size()));
  found.order.insert(found.order.end(), siblings.begin(), siblings.end());
  if (found.order.empty()) found.order.push_back(0);
  return found;
}

// cgroup v2 cpu.max: "quota period" in microseconds, or "max period".
int QuotaCores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 1 << 20;
  return std::max(1, static_cast<int>(std::ceil(std::atof(quota.c_str()) / period)));
}

}  // namespace

int UsableCores() { return std::min(FindProcessors().cores, QuotaCores()); }

// A run is published in `tickets`: its number in the high half, the tasks not yet taken in the low
// half. Whoever takes one by compare-and-swap knows that the run cannot end before he reports in
// `done`, so the run's description is stable; a worker that was late sees an empty or a newer run.
// The caller therefore never waits for a worker that has not started: on a busy machine it does the
// work alone. Workers spin on `tickets` for kSpins, then sleep.
struct ThreadPool::Impl {
  static constexpr int kSpins = 20000;  // about 100 us of _mm_pause
  static constexpr int kSpinsBeforeYield = 2000;

  std::vector<std::thread> workers;
  alignas(64) std::atomic<uint64_t> tickets{0};
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<int> sleepers{0};
  uint64_t run_number = 0;
  int64_t tasks = 0;
  Invoke invoke = nullptr;
  const void* body = nullptr;
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake;

  bool HasWork() const { return static_cast<uint32_t>(tickets.load()) != 0; }

  void Drain(int worker) {
    uint64_t ticket = tickets.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(ticket) != 0) {
      if (!tickets.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
        continue;
      }
      invoke(body, tasks - static_cast<uint32_t>(ticket), worker);
      done.fetch_add(1, std::memory_order_acq_rel);
      ticket = tickets.load(std::memory_order_acquire);
    }
  }

  void Work(int worker) {
    for (;;) {
      for (int spins = 0; !HasWork() && !stop.load(std::memory_order_relaxed); ++spins) {
        if (spins < kSpins) {
          Pause();
          continue;
        }
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return HasWork() || stop.load(); });
        sleepers.fetch_sub(1);
      }
      if (stop.load()) return;
      Drain(worker);
    }
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  if (threads <= 0) threads = UsableCores();
  const std::vector<int> processors = FindProcessors().order;
  for (int i = 1; i < threads; ++i) {
    impl_->workers.emplace_back([this, i] { impl_->Work(i); });
    if (threads <= static_cast<int>(processors.size())) {
      cpu_set_t mask;
      CPU_ZERO(&mask);
      CPU_SET(processors[i], &mask);
      pthread_setaffinity_np(impl_->workers.back().native_handle(), sizeof mask, &mask);
    }
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->wake.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::Run(int64_t tasks, Invoke invoke, const void* body) {
  if (impl_->workers.empty() || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) invoke(body, task, 0);
    return;
  }
  CHECK(tasks <= 0xffffffff);
  Impl& p = *impl_;
  p.tasks = tasks;
  p.invoke = invoke;
  p.body = body;
  p.done.store(0, std::memory_order_relaxed);
  p.tickets.store(++p.run_number << 32 | static_cast<uint64_t>(tasks));
  if (p.sleepers.load() > 0) {
    // Taking the lock orders this after a worker that is about to wait has looked for work.
    { const std::lock_guard lock(p.mutex); }
    p.wake.notify_all();
  }
  p.Drain(0);
  for (int spins = 0; p.done.load(std::memory_order_acquire) != tasks; ++spins) {
    if (spins < Impl::kSpinsBeforeYield) {
      Pause();
    } else {
      sched_yield();
    }
  }
}

}  // namespace hadal
