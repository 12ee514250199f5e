#include "llama2zh/kernels/quantized_matrix.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/quantized_product.h"
#include "kernels/tensor_checks.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

using testing::relative_difference;

struct Case {
  int64_t out, in;
  int bits;
  int64_t group_size;  // -1: one scale a row
  bool symmetric;
};

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return std::to_string(c.out) + "x" + std::to_string(c.in) + "_int" + std::to_string(c.bits) +
         "_" + (c.group_size < 0 ? "row" : std::to_string(c.group_size)) +
         (c.symmetric ? "" : "_zeros");
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const int bits : {8, 4}) {
    for (const int64_t group : {32, 64, 128, -1}) {
      for (const bool symmetric : {true, false}) {
        result.push_back({51, 200, bits, group, symmetric});
        result.push_back({64, 256, bits, group, symmetric});
      }
      result.push_back({1, 1, bits, group, true});
      result.push_back({16, 33, bits, group, false});
    }
  }
  return result;
}

QuantizedRows random_rows(const Case& c) {
  const int64_t groups = c.group_size < 0 ? 1 : (c.in + c.group_size - 1) / c.group_size;
  QuantizedRows rows;
  rows.codes = at::randint(0, 1 << c.bits, {c.out, c.in}, at::kByte);
  rows.scales = at::rand({c.out, groups}).add_(0.1).to(c.group_size < 0 ? at::kFloat : at::kHalf);
  if (!c.symmetric) rows.zeros = at::randint(0, 1 << c.bits, {c.out, groups}, at::kByte);
  return rows;
}

// scale * (code - zero), by the order of the matrix.
at::Tensor expected_weight(const Case& c, const QuantizedRows& rows) {
  const int64_t repeats = c.group_size < 0 ? c.in : c.group_size;
  const auto spread = [&](const at::Tensor& x) {
    return x.to(at::kFloat).repeat_interleave(repeats, 1).narrow(1, 0, c.in);
  };
  const at::Tensor zeros =
      c.symmetric ? at::full({c.out, c.in}, 1 << (c.bits - 1), at::kFloat) : spread(rows.zeros);
  return (rows.codes.to(at::kFloat) - zeros) * spread(rows.scales);
}

// x rounded to 8 bits by groups, in fp32 again.
at::Tensor rounded_activations(const at::Tensor& x, int64_t group) {
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < x.size(1); begin += group) {
    const at::Tensor part = x.narrow(1, begin, std::min(group, x.size(1) - begin)).to(at::kFloat);
    const at::Tensor largest = part.abs().amax(1, /*keepdim=*/true);
    parts.push_back((part * (127 / largest)).round() * (largest / 127));
  }
  return at::cat(parts, 1);
}

class Quantized : public ::testing::TestWithParam<Case> {
 protected:
  const Case& c = GetParam();
  QuantizedRows rows = random_rows(c);
  QuantizedMatrix matrix = pack(rows, c.bits, c.group_size);
  int64_t activation_group = c.group_size < 0 ? 128 : c.group_size;
};

TEST_P(Quantized, PackingIsUndoneByUnpacking) {
  matrix.check("test");
  const QuantizedRows back = unpack(matrix);
  EXPECT_TRUE(at::equal(back.codes, rows.codes));
  EXPECT_TRUE(at::equal(back.scales, rows.scales));
  EXPECT_EQ(back.zeros.defined(), !c.symmetric);
  if (back.zeros.defined()) {
    EXPECT_TRUE(at::equal(back.zeros, rows.zeros));
  }
}

TEST_P(Quantized, DequantizesToScaleTimesCodeLessZero) {
  const at::Tensor expected = expected_weight(c, rows);
  EXPECT_TRUE(at::equal(dequantize(matrix), expected));
  if (c.out < 20) return;
  EXPECT_TRUE(at::equal(dequantize(matrix, 5, 13, at::kFloat), expected.narrow(0, 5, 13)));
  EXPECT_TRUE(at::equal(dequantize(matrix, 5, 13, at::kBFloat16),
                        expected.narrow(0, 5, 13).to(at::kBFloat16)));
}

TEST_P(Quantized, ProductsOfBothKindsEqualTheReference) {
  const at::Tensor weight = expected_weight(c, rows).to(at::kDouble);
  for (const int64_t n : {1, 2, 3, 7, 8, 9, 17, 33, 64, 200}) {
    const at::Tensor x = at::randn({n, c.in});
    const at::Tensor exact = x.to(at::kDouble).mm(weight.t());
    EXPECT_LT(relative_difference(quantized_product(x, matrix, Activations::kFloat), exact), 2e-6)
        << n;
    const at::Tensor rounded = rounded_activations(x, activation_group).to(at::kDouble);
    EXPECT_LT(relative_difference(quantized_product(x, matrix, Activations::kInt8),
                                  rounded.mm(weight.t())),
              2e-6)
        << n;
  }
}

TEST_P(Quantized, ARowsBitsDoNotDependOnTheBatch) {
  const at::Tensor x = at::randn({37, c.in});
  for (const Activations kind : {Activations::kInt8, Activations::kFloat}) {
    const at::Tensor all = quantized_product(x, matrix, kind);
    for (const int64_t n : {1, 2, 3, 7, 8, 9, 17, 33}) {
      EXPECT_TRUE(at::equal(quantized_product(x.narrow(0, 37 - n, n), matrix, kind),
                            all.narrow(0, 37 - n, n)))
          << n;
    }
  }
}

TEST_P(Quantized, EveryInstructionSetGivesTheSameBits) {
  for (const int64_t n : {1, 3, 8, 17}) {
    const at::Tensor x = at::randn({n, c.in});
    const at::Tensor expected = quantized_product_with(x, matrix, int8_product_for(Isa::kPortable));
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
      if (!has_isa(isa)) GTEST_SKIP() << "this processor lacks instruction set " << int(isa);
      EXPECT_TRUE(at::equal(quantized_product_with(x, matrix, int8_product_for(isa)), expected))
          << n << " rows, instruction set " << int(isa);
    }
  }
}

// Full tiles of rows, two at once and one, what is left of them, and more rows than stay in the cache.
TEST_P(Quantized, AmxGivesTheSameBits) {
  if (!has_int8_tiles()) GTEST_SKIP() << "this processor or system has no AMX";
  for (const int64_t n : {15, 16, 31, 32, 49, 300}) {
    const at::Tensor x = at::randn({n, c.in});
    const at::Tensor expected = quantized_product_with(x, matrix, int8_product_avx512);
    EXPECT_TRUE(at::equal(quantized_product_with(x, matrix, int8_product_amx), expected)) << n;
    const at::Tensor narrow = x.to(at::kBFloat16);
    EXPECT_TRUE(at::equal(quantized_product_with(narrow, matrix, int8_product_amx),
                          quantized_product_with(narrow, matrix, int8_product_avx512)))
        << n;
  }
}

TEST_P(Quantized, BFloat16IsRoundedOnceAtTheEnd) {
  const at::Tensor x = at::randn({3, c.in}).to(at::kBFloat16);
  for (const Activations kind : {Activations::kInt8, Activations::kFloat}) {
    const at::Tensor y = quantized_product(x, matrix, kind);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(at::equal(y, quantized_product(x.to(at::kFloat), matrix, kind).to(at::kBFloat16)));
  }
}

TEST_P(Quantized, TheInputsGradientIsThatOfTheDequantizedWeight) {
  const at::Tensor x = at::randn({2, 3, c.in}).requires_grad_(true);
  const at::Tensor y_grad = at::randn({2, 3, c.out}), weight = expected_weight(c, rows);
  const at::Tensor y = quantized_linear(x, matrix, Activations::kInt8);
  EXPECT_LT(relative_difference(y, x.detach().matmul(weight.t())), 1e-5);
  y.backward(y_grad);
  EXPECT_LT(relative_difference(x.grad(), y_grad.matmul(weight)), 1e-5);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Quantized, ::testing::ValuesIn(cases()), case_name);

// Columns of the codes in another order than the input's: the same matrix, its inputs permuted.
// Matrices that share the input in 8 bits and such that can't: each result is that of its own product.
TEST(QuantizedProducts, TogetherAsAlone) {
  const Case kinds[] = {{51, 200, 8, 32, true},  {64, 200, 8, 32, true}, {16, 200, 4, 32, true},
                        {40, 200, 8, 32, false}, {40, 200, 8, -1, true}, {33, 200, 8, 128, true}};
  std::vector<QuantizedMatrix> matrices;
  for (const Case& kind : kinds)
    matrices.push_back(pack(random_rows(kind), kind.bits, kind.group_size));
  matrices.push_back(matrices.front());
  matrices.back().set_columns(at::randperm(200, at::kLong), "test");
  std::vector<const QuantizedMatrix*> all;
  for (const QuantizedMatrix& matrix : matrices) all.push_back(&matrix);
  for (const Activations activations : {Activations::kInt8, Activations::kFloat}) {
    for (const int64_t n : {0, 1, 6, 40}) {
      const at::Tensor x = at::randn({n, 200});
      const std::vector<at::Tensor> together = quantized_products(x, all, activations);
      ASSERT_EQ(together.size(), all.size());
      for (size_t i = 0; i < all.size(); ++i)
        EXPECT_TRUE(at::equal(together[i], quantized_product(x, *all[i], activations)))
            << n << " " << i;
    }
  }
}

TEST(QuantizedColumns, EveryProductTakesTheInputInTheirOrder) {
  for (const Case& c : {Case{51, 200, 4, 32, false}, Case{20, 96, 8, -1, true}}) {
    const QuantizedMatrix plain = pack(random_rows(c), c.bits, c.group_size);
    QuantizedMatrix matrix = plain;
    const at::Tensor columns = at::randperm(c.in, at::kLong);
    matrix.set_columns(columns, "w");
    matrix.check("w");
    const at::Tensor weight = dequantize(plain).index_select(1, columns.argsort());
    EXPECT_TRUE(at::equal(dequantize(matrix), weight));
    EXPECT_TRUE(at::equal(dequantize(matrix, 3, 9, at::kFloat), weight.narrow(0, 3, 9)));
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = at::randn({5, c.in}).to(type), in = x.index_select(1, columns);
      for (const Activations kind : {Activations::kInt8, Activations::kFloat})
        EXPECT_TRUE(
            at::equal(quantized_product(x, matrix, kind), quantized_product(in, plain, kind)));
    }
    const at::Tensor x = at::randn({5, c.in}).requires_grad_(true), y_grad = at::randn({5, c.out});
    const at::Tensor y = quantized_linear(x, matrix, Activations::kInt8);
    EXPECT_LT(relative_difference(y, x.detach().mm(weight.t())), 1e-5);
    y.backward(y_grad);
    EXPECT_LT(relative_difference(x.grad(), y_grad.mm(weight)), 1e-5);
    EXPECT_EQ(matrix.bytes(), plain.bytes() + static_cast<uint64_t>(8 * c.in));
  }
}

TEST(QuantizedColumns, AreAPermutationOrNothing) {
  QuantizedMatrix matrix = quantize_rows(at::randn({20, 64}), 8, 32);
  matrix.set_columns(at::arange(64), "w");
  EXPECT_FALSE(matrix.columns.defined());
  at::Tensor twice = at::arange(64);
  twice[3] = 4;
  EXPECT_THROW(matrix.set_columns(twice, "w"), Error);
  twice[3] = 64;
  EXPECT_THROW(matrix.set_columns(twice, "w"), Error);
  EXPECT_THROW(matrix.set_columns(at::arange(63), "w"), Error);
  EXPECT_THROW(matrix.set_columns(at::arange(64, at::kInt), "w"), Error);
}

TEST(QuantizeRows, RoundsToTheNearestAgainstTheStoredScale) {
  const at::Tensor weight = at::randn({19, 150});
  for (const int bits : {8, 4}) {
    const double top = (1 << (bits - 1)) - 1;
    const QuantizedRows by_row = unpack(quantize_rows(weight, bits, -1));
    const at::Tensor scales = weight.abs().amax(1, /*keepdim=*/true) / top;
    EXPECT_TRUE(at::equal(by_row.scales, scales));
    EXPECT_TRUE(at::equal(by_row.codes, ((weight / scales).round() + top + 1).to(at::kByte)));
    for (const int64_t group : {32, 64, 128}) {
      const at::Tensor back = dequantize(quantize_rows(weight, bits, group));
      EXPECT_LT((back - weight).abs().max().item<double>(),
                0.502 * weight.abs().max().item<double>() / top);
    }
  }
}

TEST(QuantizeRows, ZerosStayZeroAndWhatIsNotFiniteIsRefused) {
  const at::Tensor zeros = at::zeros({3, 40});
  EXPECT_TRUE(at::equal(dequantize(quantize_rows(zeros, 4, 32)), zeros));
  at::Tensor broken = at::randn({3, 40});
  broken[1][2] = NAN;
  EXPECT_THROW(quantize_rows(broken, 8, -1), Error);
}

TEST(QuantizedProduct, WhatIsNotFiniteInARowMakesThatRowNaN) {
  const QuantizedMatrix matrix = quantize_rows(at::randn({20, 64}), 8, 32);
  for (const float value : {NAN, INFINITY}) {
    at::Tensor x = at::randn({3, 64});
    x[1][40] = value;
    const at::Tensor y = quantized_product(x, matrix, Activations::kInt8);
    EXPECT_TRUE(y[1].isnan().all().item<bool>());
    EXPECT_TRUE(y[0].isfinite().all().item<bool>() && y[2].isfinite().all().item<bool>());
  }
}

TEST(QuantizedProduct, ZeroRowsAndRowsOfZeros) {
  const QuantizedMatrix matrix = quantize_rows(at::randn({20, 64}), 4, 32);
  EXPECT_EQ(quantized_product(at::zeros({0, 64}), matrix, Activations::kInt8).sizes(),
            at::IntArrayRef({0, 20}));
  EXPECT_TRUE(at::equal(quantized_product(at::zeros({2, 64}), matrix, Activations::kInt8),
                        at::zeros({2, 20})));
}

TEST(QuantizedProduct, SaysWhatDoesNotFit) {
  const QuantizedMatrix matrix = quantize_rows(at::randn({20, 64}), 8, 32);
  EXPECT_THROW(quantized_product(at::zeros({2, 63}), matrix, Activations::kInt8), Error);
  EXPECT_THROW(quantized_product(at::zeros({2, 64}, at::kDouble), matrix, Activations::kInt8),
               Error);
  QuantizedMatrix other = matrix;
  other.in = 96;
  EXPECT_THROW(other.check("w"), Error);
  other = matrix;
  other.codes = other.codes.narrow(0, 0, 1);
  EXPECT_THROW(other.check("w"), Error);
  other = matrix;
  other.bits = 3;
  EXPECT_THROW(other.check("w"), Error);
  EXPECT_THROW(quantize_rows(at::randn({2, 64}), 8, 48), Error);
  EXPECT_THROW(pack({at::full({2, 32}, 16, at::kByte), at::zeros({2, 1}, at::kHalf), {}}, 4, 32),
               Error);
}

}  // namespace
}  // namespace llama2zh
