#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <vector>

namespace hadal {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool.For(tasks, [&](int64_t task, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        runs[static_cast<size_t>(task)].fetch_add(1);
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPool, ManyShortRunsFollowEachOther) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  for (int run = 0; run < 2000; ++run) {
    pool.For(3, [&](int64_t task, int) { sum.fetch_add(task); });
  }
  EXPECT_EQ(sum.load(), 2000 * 3);
}

TEST(ThreadPool, WorkersWakeAfterSleeping) {
  ThreadPool pool(2);
  std::atomic<int> runs{0};
  for (int i = 0; i < 3; ++i) {
    usleep(20000);
    pool.For(2, [&](int64_t, int) { runs.fetch_add(1); });
  }
  EXPECT_EQ(runs.load(), 6);
}

TEST(ThreadPool, WritesAreSeenByTheCaller) {
  ThreadPool pool(2);
  std::vector<int64_t> out(4096);
  pool.For(4096, [&](int64_t task, int) { out[static_cast<size_t>(task)] = task * task; });
  for (int64_t i = 0; i < 4096; ++i) ASSERT_EQ(out[static_cast<size_t>(i)], i * i);
}

TEST(ThreadPool, CountsAtLeastOneCore) { EXPECT_GE(UsableCores(), 1); }

}  // namespace
}  // namespace hadal
