#include "infer/speculation.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace hadal {
namespace {

std::vector<int32_t> Lookup(PromptLookup& lookup, const std::vector<int32_t>& tokens,
                            DraftSource* source, size_t most = 4) {
  std::vector<int32_t> out(most);
  out.resize(static_cast<size_t>(lookup.Draft(tokens, out, source)));
  return out;
}

TEST(PromptLookup, ContinuesTheLongestLatestMatch) {
  PromptLookup lookup;
  DraftSource source{};
  EXPECT_TRUE(Lookup(lookup, {1, 2}, &source).empty());
  EXPECT_TRUE(Lookup(lookup, {1, 2, 3, 4}, &source).empty());
  //                         0  1  2  3  4  5  6  7  8  9
  std::vector<int32_t> t = {1, 2, 3, 4, 9, 2, 3, 5, 2, 3};
  EXPECT_EQ(Lookup(lookup, t, &source), (std::vector<int32_t>{5, 2, 3, 5})) << "latest of two";
  EXPECT_EQ(source, DraftSource::kMatch2);
  t.insert(t.end(), {8, 1, 2, 3});
  EXPECT_EQ(Lookup(lookup, t, &source), (std::vector<int32_t>{4, 9, 2, 3})) << "longest wins";
  EXPECT_EQ(source, DraftSource::kMatch3);
}

TEST(PromptLookup, RunsIntoItselfWhereTextRepeats) {
  PromptLookup lookup;
  DraftSource source{};
  EXPECT_EQ(Lookup(lookup, {5, 6, 5, 6, 5, 6}, &source, 5), (std::vector<int32_t>{5, 6, 5, 6, 5}));
  EXPECT_EQ(source, DraftSource::kMatch4);
  PromptLookup other;
  EXPECT_EQ(Lookup(other, {4, 4, 4}, &source, 3), (std::vector<int32_t>{4, 4, 4}));
}

TEST(PromptLookup, EveryDraftContinuesAnEarlierPlace) {
  Rng rng(2);
  PromptLookup lookup;
  lookup.Reserve(4000);
  std::vector<int32_t> t;
  int found = 0;
  for (int i = 0; i < 4000; ++i) {
    t.push_back(static_cast<int32_t>(rng.Below(12)));
    DraftSource source{};
    const auto draft = Lookup(lookup, t, &source, 1);
    if (draft.empty()) continue;
    ++found;
    const size_t length = static_cast<size_t>(source) + 1;
    bool seen = false;
    for (size_t j = length; j < t.size() && !seen; ++j) {
      seen = t[j] == draft[0] && std::equal(t.begin() + static_cast<ptrdiff_t>(j - length),
                                            t.begin() + static_cast<ptrdiff_t>(j),
                                            t.end() - static_cast<ptrdiff_t>(length));
    }
    ASSERT_TRUE(seen) << i;
  }
  EXPECT_GT(found, 1000);
}

// A machine on which a step of one sequence takes 1 + row_cost * (drafted rows), and text whose
// drafted ids are right with a given chance. Returns tokens a second relative to no drafts.
double Simulate(double row_cost, double chance, int64_t sequences, int steps) {
  SpeculationPolicy policy;
  Rng rng(9);
  double time = 0, tokens = 0;
  for (int i = 0; i < steps; ++i) {
    int64_t drafted = 0;
    for (int64_t s = 0; s < sequences; ++s) {
      const int64_t k = policy.DraftLength(sequences, DraftSource::kMatch3);
      int64_t accepted = 0;
      while (accepted < k && rng.NextDouble() < chance) ++accepted;
      if (k > 0) policy.RecordDraft(DraftSource::kMatch3, k, accepted);
      drafted += k;
      tokens += 1 + static_cast<double>(accepted);
    }
    const double noise = 1 + 0.1 * rng.NextDouble();
    const double step = (1 + row_cost * static_cast<double>(drafted)) * noise;
    policy.RecordStep(sequences, drafted, step);
    time += step / 1.05;
  }
  return tokens / static_cast<double>(sequences) / time;
}

TEST(SpeculationPolicy, GainsWhereItPaysAndCostsLittleWhereItDoesNot) {
  EXPECT_GT(Simulate(0.1, 0.9, 1, 3000), 2.9);
  EXPECT_GT(Simulate(0.2, 0.7, 1, 3000), 1.4);
  EXPECT_GT(Simulate(0.3, 0.1, 1, 3000), 0.98) << "hardly any id is right";
  EXPECT_GT(Simulate(0.9, 0.5, 1, 3000), 0.98) << "rows cost as much as steps";
  EXPECT_GT(Simulate(0.12, 0.8, 4, 3000), 1.15);
  EXPECT_GT(Simulate(0.25, 0.5, 4, 3000), 0.98) << "four rows are a step already";
}

TEST(SpeculationPolicy, NeverDraftsForLargeBatches) {
  SpeculationPolicy policy;
  for (int i = 0; i < 100; ++i) policy.RecordStep(32, 0, 1.0);
  EXPECT_EQ(policy.DraftLength(32, DraftSource::kMatch4), 0);
  EXPECT_EQ(policy.DraftLength(kMaxSpeculativeBatch + 1, DraftSource::kMatch4), 0);
}

TEST(SpeculationPolicy, ComesBackWhenTheTextChanges) {
  SpeculationPolicy policy;
  const auto run = [&](int steps, bool right) {
    int drafts = 0;
    for (int i = 0; i < steps; ++i) {
      const int64_t k = policy.DraftLength(1, DraftSource::kMatch4);
      if (k > 0) policy.RecordDraft(DraftSource::kMatch4, k, right ? k : 0);
      drafts += k > 0;
      policy.RecordStep(1, k, 1 + 0.2 * static_cast<double>(k));
    }
    return drafts;
  };
  run(500, false);
  EXPECT_LT(run(1000, false), 40);
  run(4000, true);
  EXPECT_GT(run(1000, true), 900);
}

}  // namespace
}  // namespace hadal
