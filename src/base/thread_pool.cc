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

// The processors of the affinity mask, the first hardware thread of each core first.
std::vector<int> ProcessorsByCore() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return {0};
  std::vector<int> first, rest;
  std::set<std::pair<int, int>> seen;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    int core = cpu, package = 0;
    std::ifstream(topology + "core_id") >> core;
    std::ifstream(topology + "physical_package_id") >> package;
    (seen.insert({package, core}).second ? first : rest).push_back(cpu);
  }
  first.insert(first.end(), rest.begin(), rest.end());
  return first.empty() ? std::vector<int>{0} : first;
}

int PhysicalCores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    int core = cpu, package = 0;
    std::ifstream(topology + "core_id") >> core;
    std::ifstream(topology + "physical_package_id") >> package;
    cores.insert({package, core});
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
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

int UsableCores() { return std::min(PhysicalCores(), QuotaCores()); }

// A run is published by bumping `epoch`; workers draw task numbers from `next` and the last one to
// leave drops `active` to zero. Workers spin on `epoch` for kSpins, then wait on the condition.
struct ThreadPool::Impl {
  static constexpr int kSpins = 20000;  // about 100 us of _mm_pause

  std::vector<std::thread> workers;
  alignas(64) std::atomic<uint64_t> epoch{0};
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> active{0};
  std::atomic<int> sleepers{0};
  int64_t tasks = 0;
  Invoke invoke = nullptr;
  const void* body = nullptr;
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake;

  void Drain(int worker) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      invoke(body, task, worker);
    }
  }

  void Work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      while (epoch.load(std::memory_order_acquire) == seen) {
        if (++spins < kSpins) {
          Pause();
          continue;
        }
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return epoch.load() != seen; });
        sleepers.fetch_sub(1);
      }
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load()) return;
      Drain(worker);
      active.fetch_sub(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  if (threads <= 0) threads = UsableCores();
  const std::vector<int> processors = ProcessorsByCore();
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
    impl_->epoch.fetch_add(1);
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
  Impl& p = *impl_;
  p.tasks = tasks;
  p.invoke = invoke;
  p.body = body;
  p.next.store(0, std::memory_order_relaxed);
  p.active.store(static_cast<int>(p.workers.size()), std::memory_order_relaxed);
  p.epoch.fetch_add(1);
  if (p.sleepers.load() > 0) {
    // Taking the lock orders this after a worker that is about to wait has checked the epoch.
    { const std::lock_guard lock(p.mutex); }
    p.wake.notify_all();
  }
  p.Drain(0);
  while (p.active.load(std::memory_order_acquire) != 0) Pause();
}

}  // namespace hadal
