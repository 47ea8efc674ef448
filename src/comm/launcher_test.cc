// Which environments mean several ranks, and which are refused.
#include <gtest/gtest.h>

#include <map>

#include "comm/internal_launcher.h"
#include "comm/internal_transport.h"

namespace hadal::internal {
namespace {

Result<Launcher> Read(const std::map<std::string, std::string>& variables) {
  return ReadLauncher([&](const char* name) {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

TEST(Launcher, KnowsItsKinds) {
  EXPECT_FALSE(Read({})->mpi);
  EXPECT_EQ(Read({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}})->ranks, 4);
  EXPECT_EQ(Read({{"PMI_RANK", "0"}, {"PMI_SIZE", "8"}})->ranks, 8);
  const auto pmix = Read({{"PMIX_RANK", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  EXPECT_TRUE(pmix->mpi);
  EXPECT_EQ(pmix->ranks, 2);
  EXPECT_EQ(pmix->name, "PMIX_RANK");
}

TEST(Launcher, UnreadableCountsAreUnknown) {
  for (const char* count : {"", "x", "-3", "0", "4 ", "99999999999999"}) {
    const auto read = Read({{"PMI_RANK", "0"}, {"PMI_SIZE", count}});
    EXPECT_TRUE(read->mpi) << count;
    EXPECT_EQ(read->ranks, 0) << count;
  }
}

TEST(Launcher, TasksWithoutMpiAreRefused) {
  const auto read = Read({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}});
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().message.find("--mpi=pmix"), std::string::npos) << read.error().message;
  // A batch script and a step of one task are alone.
  EXPECT_FALSE(Read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}})->mpi);
  EXPECT_FALSE(Read({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}})->mpi);
}

}  // namespace
}  // namespace hadal::internal
