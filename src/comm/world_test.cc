// A world of one in this process, and worlds of several under mpirun.
#include "comm/world.h"

#include <gtest/gtest.h>

#include "comm/testing_mpirun.h"

namespace hadal {
namespace {

using internal::Mpirun;
using internal::Ran;
using internal::RunCommand;

const std::string kRanks = HADAL_COMM_RANKS;

TEST(Shard, CoversInOrderEvenlyAndNests) {
  for (const int64_t align : {1, 3, 64}) {
    for (const int64_t length : {0, 1, 2, 5, 63, 64, 65, 1000, 12345}) {
      for (int parts = 1; parts <= 9; ++parts) {
        int64_t end = 0, least = length, most = 0;
        for (int i = 0; i < parts; ++i) {
          const Range range = ShardOf(length, align, parts, i);
          ASSERT_EQ(range.begin, end);
          ASSERT_GE(range.size(), 0);
          EXPECT_TRUE(range.begin == length || range.begin % align == 0);
          EXPECT_EQ(range.begin, ShardOf(length, align, 2 * parts, 2 * i).begin);
          end = range.end;
          least = std::min(least, range.size());
          most = std::max(most, range.size());
        }
        ASSERT_EQ(end, length);
        EXPECT_LT(most - least, 2 * align) << length << " by " << align << " in " << parts;
      }
    }
  }
  // 128 shards of a model of 671e9 parameters.
  EXPECT_EQ(ShardOf(671026419200, 64, 128, 127).end, 671026419200);
}

TEST(World, OneRankChangesNothing) {
  if (std::getenv("OMPI_COMM_WORLD_RANK") != nullptr) GTEST_SKIP() << "this is a rank of a job";
  auto world = World::Start();
  ASSERT_TRUE(world.ok()) << world.error().message;
  EXPECT_TRUE((*world)->alone());
  EXPECT_EQ((*world)->rank(), 0);
  std::vector<float> data = {1, 2, 3};
  (*world)->ReduceScatter(data, 64);
  (*world)->AllGather(data, 64);
  EXPECT_EQ(data, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ((*world)->Shard(3, 64, 0).end, 3);
  std::vector<int64_t> counts = {7};
  (*world)->AllReduce(counts);
  (*world)->Max(counts);
  EXPECT_EQ(counts[0], 7);
  EXPECT_EQ((*world)->GatherStrings("x"), std::vector<std::string>{"x"});
  std::vector<int32_t> in(2);
  const std::vector<int32_t> out = {4, 5};
  (*world)->AllToAll(std::vector<World::ConstInts>{out}, std::vector<std::span<int32_t>>{in});
  EXPECT_EQ(in, out);
  (*world)->Finish();
  EXPECT_TRUE(World::Start().ok()) << "a world of one may start again";
}

TEST(WorldDeathTest, AbortOfOneRankExits) {
  if (std::getenv("OMPI_COMM_WORLD_RANK") != nullptr) GTEST_SKIP() << "this is a rank of a job";
  EXPECT_EXIT((*World::Start())->Abort("disk full"), ::testing::ExitedWithCode(1),
              "hadal: disk full");
}

class Ranks : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = internal::NoRanks();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_F(Ranks, NumbersArePlainSums) {
  for (const int ranks : {2, 3, 4}) {
    const Ran ran = RunCommand(Mpirun(ranks) + kRanks + " numbers");
    EXPECT_EQ(ran.status, 0) << ran.output;
    EXPECT_NE(ran.output.find(std::to_string(ranks) + " ranks done"), std::string::npos)
        << ran.output;
  }
}

// The checksums that the ranks print, each of which must be the same.
std::string Checksum(const Ran& ran, int ranks) {
  EXPECT_EQ(ran.status, 0) << ran.output;
  const std::string first = ran.output.substr(0, ran.output.find('\n') + 1);
  EXPECT_EQ(first.size(), 65U) << ran.output;
  std::string want;
  for (int r = 0; r < ranks; ++r) want += first;
  EXPECT_EQ(ran.output, want + std::to_string(ranks) + " ranks done\n");
  return first;
}

TEST_F(Ranks, BitsDoNotDependOnTheirNumber) {
  const std::string alone = Checksum(RunCommand(kRanks + " leaves 4"), 1);
  for (const int ranks : {2, 4}) {
    EXPECT_EQ(Checksum(RunCommand(Mpirun(ranks) + kRanks + " leaves 4"), ranks), alone) << ranks;
  }
  EXPECT_EQ(Checksum(RunCommand(Mpirun(3) + kRanks + " leaves 6"), 3),
            Checksum(RunCommand(kRanks + " leaves 6"), 1));
}

TEST_F(Ranks, ALostRankEndsTheJob) {
  struct Case {
    const char* how;
    int ranks;
    const char* says;
  };
  for (const Case& c :
       {Case{"kill", 3, "rank 2 with PID"}, Case{"abort", 4, "hadal: rank 3 of 4 on "},
        Case{"leave", 2, "left the others before the end of the work"},
        Case{"mismatch", 2, "rank 1 sent 8 bytes where 12 were expected"}}) {
    const Ran ran = RunCommand(Mpirun(c.ranks) + kRanks + " " + c.how);
    EXPECT_NE(ran.status, 0) << c.how;
    EXPECT_NE(ran.status, 124) << c.how;
    EXPECT_LT(ran.seconds, 30) << c.how;
    EXPECT_NE(ran.output.find(c.says), std::string::npos) << c.how << ": " << ran.output;
    EXPECT_EQ(ran.output.find("still here"), std::string::npos) << c.how;
  }
}

TEST_F(Ranks, AnotherLaunchersCountIsRefused) {
  const Ran ran = RunCommand("env PMI_RANK=0 PMI_SIZE=4 " + kRanks + " leaves 4");
  EXPECT_EQ(ran.status, 4) << ran.output;
  EXPECT_NE(ran.output.find("a job of 4 ranks, but MPI finds 1"), std::string::npos) << ran.output;
}

}  // namespace
}  // namespace hadal
