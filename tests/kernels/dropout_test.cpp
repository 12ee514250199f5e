#include "llama2zh/kernels/dropout.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;

class HashedDropoutTypes : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(HashedDropoutTypes, KeepsTheRightShareAndScalesIt) {
  const at::Tensor x = at::ones({1000, 1003}).to(GetParam());
  const at::Tensor y = HashedDropout(0.25, 7).apply(x).to(at::kFloat);
  const double kept = y.ne(0).to(at::kFloat).mean().item<double>();
  EXPECT_NEAR(kept, 0.75, 0.002);  // 5 standard deviations
  EXPECT_NEAR(y.max().item<double>(), 1 / 0.75, 0.006);
  EXPECT_EQ(y.ne(0).to(at::kFloat).mul(y.max()).sub(y).abs().max().item<double>(), 0);
}

TEST_P(HashedDropoutTypes, AddsTheSameMask) {
  const at::Tensor x = at::randn({33, 77}).to(GetParam());
  const HashedDropout dropout(0.4, 123456789012345);
  at::Tensor total = at::zeros_like(x);
  dropout.add_to(total, x);
  EXPECT_TRUE(total.equal(dropout.apply(x)));
  dropout.add_to(total, x);
  EXPECT_LT(max_difference(total, dropout.apply(x) * 2), 1e-6);
}
INSTANTIATE_TEST_SUITE_P(Types, HashedDropoutTypes, ::testing::Values(at::kFloat, at::kBFloat16));

at::Tensor mask(uint64_t seed, int64_t rows = 400, int64_t columns = 250) {
  return HashedDropout(0.5, seed).apply(at::ones({rows, columns})).ne(0).to(at::kFloat);
}

// Masks of seeds that differ in one bit, and neighbours within a mask, agree as often as chance has it.
TEST(HashedDropout, MasksOfOtherSeedsAndOfNeighboursAreIndependent) {
  const at::Tensor first = mask(5);
  for (const uint64_t seed : {4ULL, 7ULL, 5ULL + (1ULL << 40)}) {
    EXPECT_NEAR(first.eq(mask(seed)).to(at::kFloat).mean().item<double>(), 0.5, 0.008);
  }
  const at::Tensor right = first.narrow(1, 1, 249).eq(first.narrow(1, 0, 249));
  EXPECT_NEAR(right.to(at::kFloat).mean().item<double>(), 0.5, 0.008);
  const at::Tensor below = first.narrow(0, 1, 399).eq(first.narrow(0, 0, 399));
  EXPECT_NEAR(below.to(at::kFloat).mean().item<double>(), 0.5, 0.008);
}

TEST(HashedDropout, ProbabilityZeroKeepsEverything) {
  const at::Tensor x = at::randn({5, 19});
  EXPECT_TRUE(HashedDropout(0, 3).apply(x).equal(x));
}

TEST(HashedDropout, DrawsItsSeedFromTheGeneratorThatACheckpointKeeps) {
  at::manual_seed(11);
  const uint64_t first = HashedDropout::draw(0.1).seed(), second = HashedDropout::draw(0.1).seed();
  EXPECT_NE(first, second);
  at::manual_seed(11);
  EXPECT_EQ(HashedDropout::draw(0.1).seed(), first);
}

}  // namespace
}  // namespace llama2zh
