#include "llama2zh/kernels/rms_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <c10/core/GradMode.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

// Hugging Face's LlamaRMSNorm, word for word.
at::Tensor plain_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor x32 = x.to(at::kFloat);
  const at::Tensor variance = x32.pow(2).mean(-1, true);
  return weight * (x32 * at::rsqrt(variance + eps)).to(x.scalar_type());
}

TEST(RmsNorm, EqualsThePlainFormulaWithItsGradients) {
  const at::Tensor x = at::randn({3, 5, 40}).mul(3).requires_grad_(true);
  const at::Tensor weight = at::rand({40}).add(0.5).requires_grad_(true);
  const at::Tensor seed = at::randn({3, 5, 40});
  plain_rms_norm(x, weight, 1e-3).backward(seed);
  const at::Tensor expected_x = x.grad().clone(), expected_weight = weight.grad().clone();
  x.mutable_grad().reset();
  weight.mutable_grad().reset();

  const at::Tensor y = rms_norm(x, weight, 1e-3);
  EXPECT_LT(max_difference(y, plain_rms_norm(x, weight, 1e-3)), 1e-6);
  y.backward(seed);
  EXPECT_LT(relative_difference(x.grad(), expected_x), 1e-5);
  EXPECT_LT(relative_difference(weight.grad(), expected_weight), 1e-5);
}

TEST(RmsNorm, RoundsInBfloat16WhereHuggingFaceDoes) {
  const at::Tensor x = at::randn({7, 64}).to(at::kBFloat16);
  const at::Tensor weight = at::rand({64}).add(0.5).to(at::kBFloat16);
  const at::Tensor y = rms_norm(x, weight, 1e-5);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(y.equal(plain_rms_norm(x, weight, 1e-5)));
}

TEST(RmsNorm, AnFp32MasterKeepsTheActivationsType) {
  const at::Tensor x = at::randn({7, 64}).to(at::kBFloat16).requires_grad_(true);
  const at::Tensor master = at::rand({64}).requires_grad_(true);
  const at::Tensor y = rms_norm(x, master, 1e-5);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  y.sum().backward();
  EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
  EXPECT_EQ(master.grad().scalar_type(), at::kFloat);
}

TEST(RmsNorm, AFrozenWeightGetsNoGradient) {
  const at::Tensor x = at::randn({2, 8}).requires_grad_(true);
  const at::Tensor weight = at::rand({8});
  rms_norm(x, weight, 1e-5).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(weight.grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(rms_norm(x, weight, 1e-5).requires_grad());
}

}  // namespace
}  // namespace llama2zh
