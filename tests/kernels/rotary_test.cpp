#include "llama2zh/kernels/rotary.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>

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

}  // namespace
}  // namespace llama2zh
