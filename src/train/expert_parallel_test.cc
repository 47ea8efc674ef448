// Experts shared among ranks: the bits of one rank, and what is refused.
#include "train/expert_parallel.h"

#include <gtest/gtest.h>

#include "comm/testing_mpirun.h"

namespace hadal {
namespace {

using internal::Mpirun;
using internal::Ran;
using internal::RunCommand;

const std::string kRanks = HADAL_TRAIN_RANKS;

class ExpertRanks : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string reason = internal::NoRanks();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_P(ExpertRanks, HaveTheBitsOfOneRank) {
  const std::string run = kRanks + " " + GetParam() + " ";
  const Ran alone = RunCommand(run + "1");
  ASSERT_EQ(alone.status, 0) << alone.output;
  EXPECT_GT(alone.output.size(), 300u) << alone.output;
  for (const auto& [ranks, shared] : {std::pair{2, 2}, std::pair{4, 2}, std::pair{4, 4}}) {
    const Ran ran = RunCommand(Mpirun(ranks) + run + std::to_string(shared));
    ASSERT_EQ(ran.status, 0) << ran.output;
    EXPECT_EQ(ran.output, alone.output) << ranks << " ranks, " << shared << " share";
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ExpertRanks,
                         ::testing::Values("f32", "recompute", "bf16", "fp8", "muon"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ExpertParallel, RefusesRanksThatDoNotDivide) {
  const auto world = std::move(World::Start()).value();
  const auto two = ExpertParallel::Create(*world, 2);
  ASSERT_FALSE(two.ok());
  EXPECT_NE(two.error().message.find("expert_parallel = 2 does not divide 1 rank;"),
            std::string::npos)
      << two.error().message;
  EXPECT_TRUE(ExpertParallel::Create(*world, 1).ok());
  if (internal::NoRanks().empty()) {
    // Eight experts over three ranks.
    const Ran ran = RunCommand(Mpirun(3) + kRanks + " f32 3");
    EXPECT_NE(ran.status, 0);
    EXPECT_NE(ran.output.find("8 experts do not divide over 3 ranks"), std::string::npos)
        << ran.output;
  }
}

}  // namespace
}  // namespace hadal
