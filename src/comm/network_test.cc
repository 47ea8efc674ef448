// Ranks on two hosts.
#include <gtest/gtest.h>

#include "comm/testing_network.h"

namespace hadal {
namespace {

using internal::Ran;
using internal::RunCommand;
using Network = internal::TwoHosts;

const std::string kRanks = HADAL_COMM_RANKS;

TEST_F(Network, BitsAreThoseOfOneRank) {
  const Ran alone = RunCommand(kRanks + " leaves 4");
  ASSERT_EQ(alone.status, 0) << alone.output;
  const std::string sum = alone.output.substr(0, alone.output.find('\n') + 1);
  const int64_t before = Sent();
  for (const int each : {1, 2}) {
    const Ran ran = RunBoth(each, kRanks + " leaves 4");
    EXPECT_EQ(ran.status, 0) << ran.output;
    std::string want;
    for (int r = 0; r < 2 * each; ++r) want += sum;
    EXPECT_EQ(ran.output, want + std::to_string(2 * each) + " ranks done\n");
  }
  EXPECT_GT(Sent() - before, 2 * 1200000) << "the sums did not cross the cable";
}

TEST_F(Network, ALostRankEndsTheJob) {
  const Ran ran = RunBoth(1, kRanks + " kill");
  EXPECT_NE(ran.status, 0);
  EXPECT_LT(ran.seconds, 30);
  EXPECT_NE(ran.output.find("rank 1 with PID"), std::string::npos) << ran.output;
  EXPECT_EQ(ran.output.find("still here"), std::string::npos);
}

}  // namespace
}  // namespace hadal
