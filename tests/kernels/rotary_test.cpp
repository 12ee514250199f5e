#include "llama2zh/kernels/rotary.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;

// Hugging Face's apply_rotary_pos_emb: x cos + rotate_half(x) sin.
at::Tensor plain_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor rotated = at::cat({-x.narrow(-1, half, half), x.narrow(-1, 0, half)}, -1);
  return x * cos.unsqueeze(1) + rotated * sin.unsqueeze(1);
}

struct Angles {
  at::Tensor cos, sin;
};
Angles random_angles(int64_t tokens, int64_t head_dim) {
  const at::Tensor half = at::randn({tokens, head_dim / 2}).mul(3);
  const at::Tensor both = at::cat({half, half}, 1);
  return {both.cos(), both.sin()};
}

TEST(Rotary, EqualsThePlainFormulaWithItsGradient) {
  const at::Tensor x = at::randn({6, 3, 10}).requires_grad_(true);
  const auto [cos, sin] = random_angles(6, 10);
  const at::Tensor seed = at::randn({6, 3, 10});
  plain_rotary(x, cos, sin).backward(seed);
  const at::Tensor expected = x.grad().clone();
  x.mutable_grad().reset();
  const at::Tensor y = apply_rotary(x, cos, sin);
  EXPECT_LT(max_difference(y, plain_rotary(x, cos, sin)), 1e-6);
  y.backward(seed);
  EXPECT_LT(max_difference(x.grad(), expected), 1e-6);
}

TEST(Rotary, Bfloat16IsRoundedOnce) {
  const at::Tensor x = at::randn({6, 3, 10}).to(at::kBFloat16);
  const auto [cos, sin] = random_angles(6, 10);
  const at::Tensor expected = plain_rotary(x.to(at::kFloat), cos, sin).to(at::kBFloat16);
  const at::Tensor got = apply_rotary(x, cos, sin);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT(testing::relative_difference(got, expected), 1.0 / 256);
}

// Queries and keys together, without gradients: the bits of each alone.
class RotaryOf : public ::testing::TestWithParam<std::tuple<int64_t, int64_t, at::ScalarType>> {};
TEST_P(RotaryOf, PairsAreThoseOfTheTwoSteps) {
  const auto [tokens, dim, type] = GetParam();
  const at::Tensor q = at::randn({tokens, 6, dim}).to(type);
  const at::Tensor k = at::randn({tokens, 2, dim}).to(type);
  const auto [cos, sin] = random_angles(tokens, dim);
  const at::Tensor expected_q = apply_rotary(q, cos, sin), expected_k = apply_rotary(k, cos, sin);
  const at::NoGradGuard no_grad;
  const RotatedPair got = apply_rotary(q, k, cos, sin);
  EXPECT_TRUE(got.q.equal(expected_q));
  EXPECT_TRUE(got.k.equal(expected_k));
  EXPECT_LT(max_difference(got.q, plain_rotary(q.to(at::kFloat), cos, sin)),
            type == at::kFloat ? 1e-5 : 0.05);
}
INSTANTIATE_TEST_SUITE_P(Shapes, RotaryOf,
                         ::testing::Combine(::testing::Values(1, 7, 8, 19),
                                            ::testing::Values(2, 10, 64, 66),
                                            ::testing::Values(at::kFloat, at::kBFloat16)));

}  // namespace
}  // namespace llama2zh
