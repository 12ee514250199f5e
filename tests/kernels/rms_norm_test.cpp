#include "llama2zh/kernels/rms_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <c10/core/GradMode.h>

#include "kernels/quantized_activations.h"
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

// Without gradients the work is done otherwise; the bits are the same.
class RmsNormOf : public ::testing::TestWithParam<std::tuple<int64_t, int64_t, at::ScalarType>> {};
TEST_P(RmsNormOf, SumsAreThoseOfTheTwoSteps) {
  const auto [rows, width, type] = GetParam();
  const at::Tensor x = at::randn({rows, width}).mul(3).to(type);
  const at::Tensor update = at::randn({rows, width}).to(type);
  const at::Tensor weight = at::rand({width}).add(0.5).to(type);
  const NormedSum trained = add_rms_norm(x.detach().requires_grad_(true), update, weight, 1e-5);
  EXPECT_TRUE(trained.sum.requires_grad());
  const at::NoGradGuard no_grad;
  const NormedSum got = add_rms_norm(x, update, weight, 1e-5);
  EXPECT_TRUE(got.sum.equal(x + update));
  EXPECT_TRUE(got.normed.codes.empty());
  EXPECT_TRUE(got.normed.x.equal(rms_norm(x + update, weight, 1e-5)));
  EXPECT_TRUE(got.normed.x.equal(trained.normed.x.detach()));
  EXPECT_LT(relative_difference(got.normed.x, plain_rms_norm(x + update, weight, 1e-5)),
            type == at::kFloat ? 1e-6 : 1.0 / 128);
}
// The same codes, scales and sums as a product makes of the norm's result.
TEST_P(RmsNormOf, EightBitsAreThoseOfTheResult) {
  const auto [rows, width, type] = GetParam();
  const at::Tensor x = at::randn({rows, width}).mul(3).to(type);
  const at::Tensor update = at::randn({rows, width}).to(type);
  const at::Tensor weight = at::rand({width}).add(0.5).to(type);
  for (const int64_t group : {32, 128}) {
    const InputFormat format{width, group, (width + group - 1) / group, 8};
    const auto expect_codes = [&, rows = rows](const NormedInput& got) {
      ASSERT_FALSE(got.codes.empty());
      EXPECT_EQ(got.codes.format, format);
      const QuantizedInput expected = quantize_input(got.x, format);
      const Int8Activations a = activations_of(got.codes), b = activations_of(expected);
      const auto size = static_cast<size_t>(rows * format.groups);
      for (int64_t row = 0; row < rows; ++row) {
        EXPECT_EQ(0, std::memcmp(a.codes + row * a.stride, b.codes + row * b.stride,
                                 static_cast<size_t>(format.padded_in())));
      }
      EXPECT_EQ(0, std::memcmp(a.scales, b.scales, 4 * size));
      EXPECT_EQ(0, std::memcmp(a.offsets, b.offsets, 4 * size));
    };
    EXPECT_TRUE(
        rms_norm_input(x.detach().requires_grad_(true), weight, 1e-5, format).codes.empty());
    const at::NoGradGuard no_grad;
    expect_codes(rms_norm_input(x, weight, 1e-5, format));
    expect_codes(add_rms_norm(x, update, weight, 1e-5, format).normed);
    EXPECT_TRUE(rms_norm_input(x.unsqueeze(0), weight, 1e-5, format).codes.empty());
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, RmsNormOf,
                         ::testing::Combine(::testing::Values(1, 2, 17, 33),
                                            ::testing::Values(1, 15, 16, 17, 64, 577),
                                            ::testing::Values(at::kFloat, at::kBFloat16)));

}  // namespace
}  // namespace llama2zh
