#include "kernels/moe.h"

#include <gtest/gtest.h>

#include <vector>

namespace hadal {
namespace {

TEST(MoeRoute, BiasChangesTheChoiceButNotTheWeight) {
  const Exec exec(1, Isa::kScalar);
  std::vector<float> logits = {0, 0, 0, 0};
  const std::vector<float> bias = {0, 0, 0, 1};
  int32_t id = -1;
  float weight = 0;
  MoeRoute(exec, {logits.data(), 1, 4},
           {.experts = 4, .top_k = 1, .score = GateShape::Score::kSigmoid}, bias, {&id, 1, 1},
           {&weight, 1, 1});
  EXPECT_EQ(id, 3);
  EXPECT_EQ(weight, 0.5f);
}

}  // namespace
}  // namespace hadal
