// Two hosts: two network namespaces joined by a virtual cable, ranks talking TCP across it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "comm/testing_mpirun.h"

namespace hadal::internal {

// Skips its tests, with the reason, where namespaces cannot be made.
class TwoHosts : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = internal::NoRanks();
    if (!reason.empty()) GTEST_SKIP() << reason;
    const std::string id = std::to_string(getpid());
    here_ = "hadal_a" + id;
    there_ = "hadal_b" + id;
    folder_ = std::filesystem::temp_directory_path() / ("hadal_network_" + id);
    std::filesystem::create_directories(folder_);
    const Ran made = RunCommand("sh -ec '" + Commands("ha" + id, "hb" + id) + "'");
    if (made.status != 0) GTEST_SKIP() << "no network namespaces here: " << made.output;
    // mpirun calls this in place of ssh, with the host's name and the command for its shell.
    std::ofstream(Agent())
        << "#!/bin/sh\nshift\nexec ip netns exec " << there_
        << " unshare -u sh -c \"echo hadal-there >/proc/sys/kernel/hostname; $*\"\n";
    std::filesystem::permissions(Agent(), std::filesystem::perms::owner_all);
  }
  void TearDown() override {
    if (here_.empty()) return;
    RunCommand("ip netns del " + here_);
    RunCommand("ip netns del " + there_);
    std::filesystem::remove_all(folder_);
  }

  std::string Agent() const { return (folder_ / "agent").string(); }
  std::string Commands(const std::string& a, const std::string& b) const {
    return "ip netns add " + here_ + "; ip netns add " + there_ + "; ip link add " + a + " netns " +
           here_ + " type veth peer name " + b + " netns " + there_ + "; ip -n " + here_ +
           " addr add 10.231.7.1/24 dev " + a + "; ip -n " + there_ +
           " addr add 10.231.7.2/24 dev " + b + "; for n in " + here_ + " " + there_ +
           "; do ip -n $n link set lo up; done; ip -n " + here_ + " link set " + a + " up; ip -n " +
           there_ + " link set " + b + " up; ip netns exec " + there_ +
           " unshare -u sh -c \"echo hadal-there >/proc/sys/kernel/hostname\"";
  }
  // A command as `each` ranks on both hosts; without btl vader (shared memory) nothing but the
  // cable joins them.
  Ran RunBoth(int each, const std::string& command) const {
    const std::string slots = ":" + std::to_string(each);
    return RunCommand("ip netns exec " + here_ +
                      " mpirun --allow-run-as-root --oversubscribe --mca btl tcp,self"
                      " --mca btl_tcp_if_include 10.231.7.0/24"
                      " --mca oob_tcp_if_include 10.231.7.0/24 --mca plm_rsh_agent " +
                      Agent() + " -H 10.231.7.1" + slots + ",10.231.7.2" + slots + " -n " +
                      std::to_string(2 * each) + " " + command);
  }
  // Bytes that left the first host.
  int64_t Sent() const {
    const Ran ran = RunCommand("ip netns exec " + here_ +
                               " sh -c 'cat /sys/class/net/ha*/statistics/tx_bytes'");
    return std::atoll(ran.output.c_str());
  }

 private:
  std::string here_, there_;
  std::filesystem::path folder_;
};

}  // namespace hadal::internal
