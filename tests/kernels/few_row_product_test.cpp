#include "llama2zh/kernels/few_row_product.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "kernels/tensor_checks.h"
#include "llama2zh/base/error.h"
#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

using testing::max_difference;

constexpr int64_t kRowCounts[] = {1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 64, 200};

struct Types {
  at::ScalarType x, weight;
};

// out, in, types
class FewRows : public ::testing::TestWithParam<std::tuple<int64_t, int64_t, Types>> {
 protected:
  int64_t out = std::get<0>(GetParam()), in = std::get<1>(GetParam());
  Types types = std::get<2>(GetParam());
  at::Tensor weight = at::randn({out, in}).to(types.weight);
  at::Tensor rows(int64_t n) const { return at::randn({n, in}).to(types.x); }
};

TEST_P(FewRows, EqualTheReference) {
  for (const int64_t n : kRowCounts) {
    const at::Tensor x = rows(n), y = few_row_product(x, weight);
    EXPECT_EQ(y.scalar_type(), types.x);
    const at::Tensor exact = x.to(at::kDouble).mm(weight.to(at::kDouble).t());
    const double size = std::sqrt(static_cast<double>(in)) + exact.abs().max().item<double>();
    EXPECT_LT(max_difference(y, exact), size * (types.x == at::kFloat ? 1e-6 : 4e-3)) << n;
  }
}

TEST_P(FewRows, ARowsBitsDoNotDependOnTheBatch) {
  const InvariantProducts invariant;
  const at::Tensor x = rows(200), all = few_row_product(x, weight);
  for (const int64_t n : kRowCounts) {
    EXPECT_TRUE(
        at::equal(few_row_product(x.narrow(0, 200 - n, n), weight), all.narrow(0, 200 - n, n)))
        << n;
  }
}

TEST_P(FewRows, WhatFollowsAWeightInMemoryIsNotRead) {
  const at::Tensor larger = at::full({out + 8, in}, NAN, weight.options());
  larger.narrow(0, 0, out).copy_(weight);
  const at::Tensor x = rows(9);
  EXPECT_TRUE(at::equal(few_row_product(x, larger.narrow(0, 0, out)), few_row_product(x, weight)));
}

TEST_P(FewRows, TogetherAsAlone) {
  const at::Tensor second = at::randn({out + 7, in}).to(types.weight);
  const at::Tensor weights[] = {weight, second, weight};
  for (const int64_t n : {1, 5, 40}) {
    const at::Tensor x = rows(n);
    const std::vector<at::Tensor> both = few_row_products(x, weights);
    ASSERT_EQ(both.size(), 3u);
    for (size_t i = 0; i < both.size(); ++i)
      EXPECT_TRUE(at::equal(both[i], few_row_product(x, weights[i]))) << n << " " << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, FewRows,
                         ::testing::Combine(::testing::Values(1, 6, 53, 96),
                                            ::testing::Values(1, 31, 64, 200),
                                            ::testing::Values(Types{at::kBFloat16, at::kBFloat16},
                                                              Types{at::kFloat, at::kBFloat16},
                                                              Types{at::kFloat, at::kFloat})));

TEST(FewRowProduct, IsWhatLinearProductTakesWithoutGradients) {
  const at::Tensor weight = at::randn({50, 70}).to(at::kBFloat16);
  const at::Tensor x = at::randn({2, 3, 70}).to(at::kBFloat16);
  const at::Tensor y = linear_product(x, weight);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({2, 3, 50}));
  EXPECT_TRUE(at::equal(y.view({6, 50}), few_row_product(x.view({6, 70}), weight)));
  const at::Tensor trained = x.detach().requires_grad_(true);
  EXPECT_TRUE(linear_product(trained, weight).requires_grad());
}

TEST(FewRowProduct, InvariantProductsHoldForAnyNumberOfRowsAndType) {
  const at::Tensor wide = at::randn({50, 70});
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const at::ScalarType of_x : {at::kFloat, at::kBFloat16}) {
      const at::Tensor weight = wide.to(type), x = at::randn({300, 70}).to(of_x);
      const InvariantProducts invariant;
      const at::Tensor all = linear_product(x, weight);
      EXPECT_EQ(all.scalar_type(), of_x);
      EXPECT_TRUE(at::equal(linear_product(x.narrow(0, 299, 1), weight), all.narrow(0, 299, 1)));
    }
  }
  EXPECT_FALSE(InvariantProducts::active());
}

TEST(FewRowProduct, SaysWhatDoesNotFit) {
  const at::Tensor weight = at::zeros({4, 8}, at::kBFloat16);
  EXPECT_THROW(few_row_product(at::zeros({2, 7}, at::kBFloat16), weight), Error);
  EXPECT_THROW(few_row_product(at::zeros({2, 8}, at::kDouble), weight), Error);
  EXPECT_EQ(few_row_product(at::zeros({0, 8}), weight).size(0), 0);
}

}  // namespace
}  // namespace llama2zh
