#include "llama2zh/kernels/swiglu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

struct Gradients {
  at::Tensor y, gate, up;
};

Gradients differentiate(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& seed,
                        bool fused) {
  const at::Tensor g = gate.detach().clone().requires_grad_(true);
  const at::Tensor u = up.detach().clone().requires_grad_(true);
  const at::Tensor y = fused ? swiglu(g, u) : at::silu(g) * u;
  y.backward(seed);
  return {y.detach(), g.grad(), u.grad()};
}

class Swiglu : public ::testing::TestWithParam<int64_t> {};  // width: whole vectors, and odd ends

TEST_P(Swiglu, EqualsLibtorchsOperatorsWithGradients) {
  const at::Tensor gate = at::randn({7, GetParam()}) * 4, up = at::randn({7, GetParam()});
  const at::Tensor seed = at::randn({7, GetParam()});
  const Gradients expected = differentiate(gate, up, seed, false);
  const Gradients got = differentiate(gate, up, seed, true);
  EXPECT_LT(relative_difference(got.y, expected.y), 1e-6);
  EXPECT_LT(relative_difference(got.gate, expected.gate), 1e-6);
  EXPECT_LT(relative_difference(got.up, expected.up), 1e-6);
}
INSTANTIATE_TEST_SUITE_P(Widths, Swiglu, ::testing::Values(1, 15, 16, 64, 177));

TEST(SwigluTypes, Bfloat16IsRoundedWhereHuggingFaceDoes) {
  const at::Tensor gate = (at::randn({31, 95}) * 3).to(at::kBFloat16);
  const at::Tensor up = at::randn({31, 95}).to(at::kBFloat16);
  const at::Tensor seed = at::randn({31, 95}).to(at::kBFloat16);
  const Gradients expected = differentiate(gate, up, seed, false);
  const Gradients got = differentiate(gate, up, seed, true);
  EXPECT_LT(testing::rms_difference(got.y, expected.y), 1e-4);
  EXPECT_LT(relative_difference(got.gate, expected.gate), 1e-2);
  EXPECT_LT(relative_difference(got.up, expected.up), 1e-2);
}

TEST(SwigluTypes, NotANumberStaysNotANumber) {
  at::Tensor gate = at::randn({2, 40}), up = at::randn({2, 40});
  gate[1][3].fill_(NAN);
  EXPECT_TRUE(swiglu(gate, up).isnan()[1][3].item<bool>());
  EXPECT_TRUE(swiglu(gate.to(at::kBFloat16), up.to(at::kBFloat16)).isnan()[1][3].item<bool>());
}

}  // namespace
}  // namespace llama2zh
