// The order of sums: the counter, the pairwise loops and the definition agree bit by bit.
#include "comm/leaf_tree.h"

#include <gtest/gtest.h>

#include <bit>
#include <random>

namespace hadal {
namespace {

using Vectors = std::vector<std::vector<float>>;

Vectors RandomLeaves(int64_t count, int64_t length) {
  std::mt19937 random(static_cast<unsigned>(count * 1000 + length));
  std::normal_distribution<float> normal;
  Vectors leaves(static_cast<size_t>(count), std::vector<float>(static_cast<size_t>(length)));
  for (auto& leaf : leaves) {
    for (float& v : leaf) v = normal(random) * std::ldexp(1.0f, static_cast<int>(random() % 20));
  }
  return leaves;
}

// The definition of the header.
std::vector<float> Definition(std::span<const std::vector<float>> leaves) {
  if (leaves.size() == 1) return leaves[0];
  const size_t k = std::bit_floor(leaves.size() - 1);
  std::vector<float> a = Definition(leaves.first(k));
  const std::vector<float> b = Definition(leaves.subspan(k));
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

std::vector<float> ByCounter(Vectors leaves) {
  const auto length = static_cast<int64_t>(leaves[0].size());
  LeafTree tree(length, static_cast<int64_t>(leaves.size()));
  const Vectors original = leaves;
  for (size_t i = 0; i < leaves.size(); ++i) {
    tree.Add(static_cast<int64_t>(i), leaves[i]);
    if (i + 1 < leaves.size()) {
      EXPECT_EQ(leaves[i], original[i]) << "leaf " << i;
    }
  }
  return leaves.back();
}

TEST(LeafTree, AllWaysAreTheDefinition) {
  int differs = 0;
  for (int64_t count = 1; count <= 20; ++count) {
    Vectors leaves = RandomLeaves(count, 33);
    const std::vector<float> want = Definition(leaves);
    EXPECT_EQ(ByCounter(leaves), want) << count;
    std::vector<float> in_turn = leaves[0];
    for (size_t i = 1; i < leaves.size(); ++i) {
      for (size_t j = 0; j < in_turn.size(); ++j) in_turn[j] += leaves[i][j];
    }
    differs += in_turn != want;
    std::vector<double> doubles;
    for (const auto& leaf : leaves) doubles.insert(doubles.end(), leaf.begin(), leaf.end());
    TreeSum(doubles, 33, count);
    std::vector<std::span<float>> parts(leaves.begin(), leaves.end());
    TreeSum(parts);
    EXPECT_EQ(leaves[0], want) << count;
    for (size_t j = 0; j < 33; ++j) EXPECT_NEAR(doubles[j], want[j], 4.0) << count;
  }
  EXPECT_GE(differs, 15) << "these leaves do not tell one order from another";
}

TEST(LeafTree, AlignedRunsAreSubtrees) {
  for (const int64_t ranks : {1, 2, 3, 4, 5, 7, 8}) {
    for (const int64_t each : {1, 2, 4, 8}) {
      const Vectors leaves = RandomLeaves(ranks * each, 9);
      Vectors sums;
      for (int64_t r = 0; r < ranks; ++r) {
        sums.push_back(ByCounter({leaves.begin() + r * each, leaves.begin() + (r + 1) * each}));
      }
      EXPECT_EQ(Definition(sums), Definition(leaves)) << ranks << " x " << each;
    }
  }
}

TEST(LeafTree, HoldsFewVectorsAndWorksAgain) {
  EXPECT_EQ(LeafTree(100, 1).bytes(), 0);
  EXPECT_EQ(LeafTree(100, 2).bytes(), 400);
  EXPECT_EQ(LeafTree(100, 7).bytes(), 800);
  EXPECT_EQ(LeafTree(100, 16).bytes(), 1600);
  LeafTree tree(3, 4);
  for (int round = 0; round < 3; ++round) {
    std::vector<float> leaf;
    for (int i = 0; i < 4; ++i) {
      leaf.assign(3, static_cast<float>(1 << i));
      tree.Add(i, leaf);
    }
    EXPECT_EQ(leaf, std::vector<float>(3, 15)) << round;
  }
}

TEST(LeafTreeDeathTest, LeavesComeInOrder) {
  std::vector<float> leaf(3);
  LeafTree tree(3, 4);
  EXPECT_DEATH(tree.Add(1, leaf), "index == next_");
}

}  // namespace
}  // namespace hadal
