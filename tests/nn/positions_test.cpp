#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "kernels/tensor_checks.h"
#include "llama2zh/nn/attention_context.h"
#include "llama2zh/nn/rope.h"

namespace llama2zh {
namespace {

TEST(PackedSequences, PositionsRestartAtEachBoundary) {
  const PackedSequences packed({0, 3, 4, 6}, at::kCPU);
  EXPECT_TRUE(packed.positions().equal(at::tensor(std::vector<int64_t>{0, 1, 2, 0, 0, 1})));
  const PackedSequences one(3, at::kCPU);
  EXPECT_TRUE(one.positions().equal(at::arange(3)));
}

TEST(RotaryEmbedding, AnglesFollowTheFormula) {
  const RotaryEmbedding rotary(8, {50000, "linear", 4}, at::kCPU);
  const auto [cos, sin] = rotary.at_positions(at::tensor(std::vector<int64_t>{0, 1, 1000}));
  ASSERT_EQ(cos.sizes(), (at::IntArrayRef{3, 8}));
  const int64_t positions[] = {0, 1, 1000};
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 0; i < 8; ++i) {
      const double inv_freq = std::pow(50000.0, -2.0 * static_cast<double>(i % 4) / 8) / 4;
      const double angle = static_cast<double>(positions[t]) * inv_freq;
      EXPECT_NEAR(cos[t][i].item<double>(), std::cos(angle), 5e-5) << t << " " << i;
      EXPECT_NEAR(sin[t][i].item<double>(), std::sin(angle), 5e-5) << t << " " << i;
    }
  }
}

}  // namespace
}  // namespace llama2zh
