#include "llama2zh/kernels/product.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

// 3 rows of blocks: 512 Ki elements are converted at a time.
constexpr int64_t kIn = 1024, kOut = 1300;

class LinearProduct : public ::testing::TestWithParam<at::ScalarType> {};  // the weight's type

TEST_P(LinearProduct, EqualsTheProductOfTheConvertedWeight) {
  const at::Tensor weight = at::randn({kOut, kIn}).to(GetParam());
  const at::Tensor x = at::randn({2, 3, kIn});
  const at::Tensor y = linear_product(x, weight);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_LT(relative_difference(y, at::linear(x, weight.to(at::kFloat))), 1e-6);
}

TEST_P(LinearProduct, GradientsReachBothSides) {
  const at::Tensor weight = at::randn({kOut, kIn}).to(GetParam()).requires_grad_(true);
  const at::Tensor x = at::randn({5, kIn}).requires_grad_(true);
  const at::Tensor y_grad = at::randn({5, kOut});
  linear_product(x, weight).backward(y_grad);
  EXPECT_EQ(weight.grad().scalar_type(), GetParam());
  const at::Tensor wide = weight.detach().to(at::kFloat);
  EXPECT_LT(relative_difference(x.grad(), y_grad.mm(wide)), 1e-5);
  EXPECT_LT(relative_difference(weight.grad(), y_grad.t().mm(x.detach())), 1e-2);
}
INSTANTIATE_TEST_SUITE_P(Types, LinearProduct,
                         ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf));

TEST(LinearProductMasters, AMasterIsMultipliedInTheActivationsType) {
  const at::Tensor master = at::randn({kOut, kIn}).requires_grad_(true);
  const at::Tensor x = at::randn({4, kIn}).to(at::kBFloat16).requires_grad_(true);
  const at::Tensor y = linear_product(x, master);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const at::Tensor exact = at::linear(x.detach().to(at::kFloat), master.detach());
  EXPECT_LT(relative_difference(y, exact), 1e-2);
  y.sum().backward();
  EXPECT_EQ(master.grad().scalar_type(), at::kFloat);
  EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
}

// Formed in bfloat16 or float32 (large_product_type), into bfloat16 either way, forward and backward.
TEST(LargeProduct, IsTheExactOneRoundedToBfloat16) {
  constexpr int64_t kRows = 200;
  const at::Tensor weight = (at::randn({2 * kOut, kIn}) / 32).to(at::kBFloat16);
  const at::Tensor x = at::randn({2, kRows / 2, kIn}).to(at::kBFloat16).requires_grad_(true);
  const at::Tensor trained = weight.clone().requires_grad_(true);
  const at::Tensor y = linear_product(x, trained);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const at::Tensor wide = weight.to(at::kFloat), wide_x = x.detach().to(at::kFloat);
  EXPECT_LT(relative_difference(y.detach(), at::linear(wide_x, wide)), 4e-3);
  const at::Tensor y_grad = at::randn_like(y);
  y.backward(y_grad);
  ASSERT_EQ(x.grad().scalar_type(), at::kBFloat16);
  ASSERT_EQ(trained.grad().scalar_type(), at::kBFloat16);
  const at::Tensor wide_grad = y_grad.to(at::kFloat).view({kRows, -1});
  EXPECT_LT(relative_difference(x.grad().view({kRows, -1}), wide_grad.mm(wide)), 4e-3);
  EXPECT_LT(relative_difference(trained.grad(), wide_grad.t().mm(wide_x.view({kRows, -1}))), 4e-3);
}

TEST(LargeProduct, FewRowsStayInTheirOwnType) {
  const at::Tensor x = at::zeros({200, 8}, at::kBFloat16);
  EXPECT_EQ(large_product_type(x.narrow(0, 0, 8)), product_type(x));
  EXPECT_EQ(large_product_type(x.to(at::kFloat)), at::kFloat);
  const char* wanted = std::getenv("LLAMA2ZH_LARGE_PRODUCTS");
  if (wanted == nullptr || *wanted == '\0') GTEST_SKIP() << "the processor decides";
  EXPECT_EQ(large_product_type(x), std::string(wanted) == "float32" ? at::kFloat : product_type(x));
}

TEST(ProductType, IsTheTensorsOwnUnlessTheProcessorIsSlowInIt) {
  const at::Tensor x = at::randn({1});
  EXPECT_EQ(product_type(x), at::kFloat);
  EXPECT_EQ(product_type(x.to(at::kBFloat16)), has_fast_bfloat16() ? at::kBFloat16 : at::kFloat);
}

}  // namespace
}  // namespace llama2zh
