#include "kernels/attention.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

TEST(Blocks, BytesOfABlock) {
  EXPECT_EQ(GqaBlockBytes({.heads = 9, .kv_heads = 3, .k_dim = 64, .v_dim = 64, .scale = 1},
                          KvType::kF16),
            3 * 16 * 128 * 2);
  EXPECT_EQ(MlaBlockBytes({.heads = 16, .latent = 512, .rope = 64, .scale = 1}, KvType::kF32),
            16 * 576 * 4);
}

}  // namespace
}  // namespace hadal
