#include "llama2zh/model/gptq.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cholesky_inverse.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cmath>

#include "llama2zh/model/input_hessian.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::random;

// Inputs whose columns go together, as a model's do; else there is nothing to make good.
at::Tensor correlated_inputs(int64_t rows, int64_t in, uint64_t seed) {
  return random({rows, in / 4}, seed).mm(random({in / 4, in}, seed + 1)) +
         random({rows, in}, seed + 2) * 0.3;
}

double output_error(const at::Tensor& x, const at::Tensor& weight, const QuantizedMatrix& matrix) {
  return x.mm((dequantize(matrix) - weight).t()).square().mean().item<double>();
}

struct Shape {
  int64_t out, in;
  int bits;
  int64_t group_size;
};

class Gptq : public ::testing::TestWithParam<Shape> {};

TEST_P(Gptq, ChangesOutputsLessThanRounding) {
  const auto [out, in, bits, group_size] = GetParam();
  const at::Tensor weight = random({out, in}, 1), x = correlated_inputs(600, in, 2);
  InputHessian hessian;
  hessian.add(x.narrow(0, 0, 300));
  hessian.add(x.narrow(0, 300, 300));
  EXPECT_EQ(hessian.rows(), 600);
  EXPECT_TRUE(hessian.sum().allclose(x.t().mm(x), 1e-4, 1e-2));
  const QuantizedMatrix chosen = gptq_quantize(weight, hessian.sum(), bits, group_size);
  const QuantizedMatrix rounded = quantize_rows(weight, bits, group_size);
  EXPECT_EQ(chosen.bytes(), rounded.bytes());
  const at::Tensor fresh = correlated_inputs(600, in, 2);
  EXPECT_LT(output_error(fresh, weight, chosen), 0.6 * output_error(fresh, weight, rounded));
}

// The published algorithm as it reads, in fp64: a column at a time over all rows, with the scales
// that were found.
TEST_P(Gptq, CodesAreThoseOfTheAlgorithmAsPublished) {
  const auto [out, in, bits, group_size] = GetParam();
  const at::Tensor x = correlated_inputs(600, in, 5), weight = random({out, in}, 4);
  const at::Tensor hessian = x.t().mm(x);
  const QuantizedRows rows = unpack(gptq_quantize(weight, hessian, bits, group_size));
  at::Tensor w = weight.to(at::kDouble), h = hessian.to(at::kDouble);
  h.diagonal().add_(0.01 * h.diagonal().mean());
  const at::Tensor u = at::linalg_cholesky(at::cholesky_inverse(at::linalg_cholesky(h)), true);
  const int64_t group = group_size == -1 ? in : group_size;
  const double middle = 1 << (bits - 1);
  int64_t differ = 0;
  for (int64_t j = 0; j < in; ++j) {
    const at::Tensor scale = rows.scales.select(1, j / group).to(at::kDouble);
    const at::Tensor code = (w.select(1, j) / scale + middle).round().clamp(0, 2 * middle - 1);
    differ += code.ne(rows.codes.select(1, j).to(at::kDouble)).sum().item<int64_t>();
    const at::Tensor taken = rows.codes.select(1, j).to(at::kDouble);  // ties may go either way
    const at::Tensor error = (w.select(1, j) - (taken - middle) * scale) / u[j][j];
    w.sub_(error.unsqueeze(1) * u[j].unsqueeze(0));
  }
  EXPECT_LE(differ, out * in / 500);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Gptq,
                         ::testing::Values(Shape{48, 128, 4, 32}, Shape{33, 200, 4, 64},
                                           Shape{16, 320, 4, -1}, Shape{20, 96, 8, 32},
                                           Shape{20, 96, 8, -1}));

TEST(Gptq, InputsThatNeverOccurAreRounded) {
  const at::Tensor weight = random({16, 64}, 7), x = random({100, 64}, 8);
  x.narrow(1, 10, 20).zero_();
  const QuantizedMatrix matrix = gptq_quantize(weight, x.t().mm(x), 8, 32);
  const at::Tensor change = (dequantize(matrix) - weight).narrow(1, 10, 20);
  EXPECT_LT(change.abs().max().item<double>(), 0.1);  // of weights up to 3: none is cut off
}

TEST(Gptq, ZerosStayZeros) {
  const at::Tensor weight = at::zeros({16, 64}), x = random({100, 64}, 8);
  EXPECT_EQ(dequantize(gptq_quantize(weight, x.t().mm(x), 4, 32)).abs().max().item<double>(), 0);
}

TEST(Gptq, WhatIsNotFiniteIsRefused) {
  at::Tensor weight = random({16, 64}, 7), x = random({100, 64}, 8);
  x[3][5] = std::nan("");
  EXPECT_ANY_THROW(gptq_quantize(weight, x.t().mm(x), 4, 32));
  weight[0][0] = INFINITY;
  x[3][5] = 1;
  EXPECT_ANY_THROW(gptq_quantize(weight, x.t().mm(x), 4, 32));
}

}  // namespace
}  // namespace llama2zh
