#include "llama2zh/kernels/product_peak.h"

#include <ATen/Context.h>
#include <ATen/ops/rand.h>
#include <gtest/gtest.h>

namespace llama2zh {
namespace {

TEST(ProductPeak, IsARateAndLeavesTheRandomGeneratorAlone) {
  at::manual_seed(1);
  const float expected = at::rand({1}).item<float>();
  at::manual_seed(1);
  const double peak = measure_product_peak(at::kFloat, at::kCPU);
  EXPECT_EQ(at::rand({1}).item<float>(), expected);
  EXPECT_GT(peak, 1e8);
  EXPECT_LT(peak, 1e15);
}

}  // namespace
}  // namespace llama2zh
