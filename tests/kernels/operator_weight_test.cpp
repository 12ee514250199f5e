#include "llama2zh/kernels/operator_weight.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <gtest/gtest.h>

#include "kernels/each_device.h"
#include "kernels/quantized_product.h"
#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::relative_difference;

QuantizedMatrix random_matrix(int64_t out, int64_t in, int bits, int64_t group, bool zeros) {
  const int64_t groups = group < 0 ? 1 : (in + group - 1) / group;
  QuantizedRows rows;
  rows.codes = at::randint(0, 1 << bits, {out, in}, at::kByte);
  rows.scales = at::rand({out, groups}).add_(0.1).to(group < 0 ? at::kFloat : at::kHalf);
  if (zeros) rows.zeros = at::randint(0, 1 << bits, {out, groups}, at::kByte);
  return pack(rows, bits, group);
}

class OperatorWeights : public testing::EachDevice {
 protected:
  // Of products with x in bfloat16 and the weight as it is.
  void expect_product(const QuantizedMatrix& matrix, int64_t rows) {
    const auto weight = OperatorWeight::make(matrix, device());
    ASSERT_TRUE(weight);
    const at::Tensor x = at::randn({rows, matrix.in}).to(at::kBFloat16);
    const at::Tensor exact = x.to(at::kDouble).mm(dequantize(matrix).to(at::kDouble).t());
    const at::Tensor y = weight->product(x.to(device()));
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    EXPECT_LT(relative_difference(y.cpu(), exact), 0.012)
        << matrix.out << " x " << matrix.in << ", " << matrix.bits << " bits, group "
        << matrix.group_size << ", " << rows << " rows";
  }
};
INSTANTIATE_TEST_SUITE_P(Device, OperatorWeights, testing::each_device(), testing::device_name);

TEST_P(OperatorWeights, FourBitsOfAnyGroupAndShapeMultiplyAsTheWeightDoes) {
  for (const int64_t group : {32, 64, 128, -1}) {
    for (const bool zeros : {false, true}) {
      for (const int64_t rows : {1, 5, 40}) {
        expect_product(random_matrix(64, 256, 4, group, zeros), rows);
        expect_product(random_matrix(51, 200, 4, group, zeros), rows);
      }
    }
  }
}

TEST_P(OperatorWeights, EightBitsWithAScaleARowMultiplyAsTheWeightDoes) {
  for (const int64_t rows : {1, 5, 40}) {
    expect_product(random_matrix(64, 256, 8, -1, false), rows);
    expect_product(random_matrix(51, 200, 8, -1, false), rows);
  }
}

TEST_P(OperatorWeights, ColumnsMayBeInAnotherOrder) {
  QuantizedMatrix matrix = random_matrix(32, 128, 4, 32, true);
  matrix.set_columns(at::randperm(128, at::kLong), "test");
  expect_product(matrix, 3);
}

TEST_P(OperatorWeights, WhatNoOperatorTakesHasNoSuchForm) {
  EXPECT_FALSE(OperatorWeight::make(random_matrix(32, 128, 8, 32, false), device()));
  EXPECT_FALSE(OperatorWeight::make(random_matrix(32, 128, 8, -1, true), device()));
}

TEST_P(OperatorWeights, AMatrixIsAsSmallAsItsBits) {
  const QuantizedMatrix matrix = random_matrix(512, 1024, 4, 128, false);
  const auto weight = OperatorWeight::make(matrix, device());
  ASSERT_TRUE(weight);
  EXPECT_LT(weight->bytes(), 512 * 1024 / 2 * 1.1);
}

// The trial fails there: nothing can be read back.
TEST(OperatorWeightTrial, WhereOperatorsDoNotWorkThereIsNoSuchForm) {
  EXPECT_FALSE(OperatorWeight::make(random_matrix(32, 128, 4, 32, false), at::kMeta));
}

// The matrix itself on that device: what training and other types than bfloat16 use.
TEST_P(OperatorWeights, AMatrixThereDequantizesToTheSameBits) {
  for (const int bits : {4, 8}) {
    for (const int64_t group : {32, 128, -1}) {
      const QuantizedMatrix matrix = random_matrix(51, 200, bits, group, group == 32);
      const QuantizedMatrix there = matrix.to(device());
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        const at::Tensor expected = dequantize(matrix).to(type);
        EXPECT_TRUE(at::equal(dequantize(there, 0, 51, type).cpu(), expected));
        EXPECT_TRUE(at::equal(dequantize_by_operators(there, 5, 30, type).cpu(),
                              expected.narrow(0, 5, 30)));
        const at::Tensor rows = at::randint(0, 51, {7}, at::kLong);
        EXPECT_TRUE(at::equal(dequantize_rows(there, rows.to(device()), type).cpu(),
                              expected.index_select(0, rows)));
        EXPECT_TRUE(at::equal(dequantize_rows_by_operators(there, rows.to(device()), type).cpu(),
                              expected.index_select(0, rows)));
      }
    }
  }
}

TEST_P(OperatorWeights, GradientsPassThroughAMatrixThere) {
  QuantizedMatrix matrix = random_matrix(51, 200, 4, 32, true);
  matrix.set_columns(at::randperm(200, at::kLong), "test");
  const at::Tensor weight = dequantize(matrix).to(at::kDouble);
  const at::Tensor x = at::randn({6, 200}), grad = at::randn({6, 51});
  at::Tensor leaf = x.to(device()).requires_grad_(true);
  for (const QuantizedMatrix& place :
       {matrix.to(device()), matrix}) {  // the second: still on the CPU
    const at::Tensor y = quantized_linear(leaf, place, Activations::kInt8);
    EXPECT_LT(relative_difference(y.detach().cpu(), x.to(at::kDouble).mm(weight.t())), 1e-5);
    leaf.mutable_grad().reset();
    y.backward(grad.to(device()));
    EXPECT_LT(relative_difference(leaf.grad().cpu(), grad.to(at::kDouble).mm(weight)), 1e-5);
  }
}

}  // namespace
}  // namespace llama2zh
