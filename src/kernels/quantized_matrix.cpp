// The layout of quantized weights (see the header) and the way into and out of it. None of this is
// on a path that runs per token; the tensors' own operators do the work.
#include "llama2zh/kernels/quantized_matrix.h"

#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <tuple>

#include "kernels/quantized_product.h"
#include "kernels/quantized_tiles.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kColumns = kBlockColumns;

int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }

void expect(const at::Tensor& tensor, at::ScalarType type, const std::vector<int64_t>& shape,
            at::Device device, std::string_view where, std::string_view name) {
  if (!tensor.defined()) fail_data(where, cat(name, " are missing"));
  if (tensor.scalar_type() != type || tensor.sizes() != at::IntArrayRef(shape) ||
      tensor.device() != device || !tensor.is_contiguous()) {
    fail_data(where, cat(name, " are ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(),
                         " on ", tensor.device().str(), ", expected contiguous ",
                         c10::toString(type), " ", at::IntArrayRef(shape), " on ", device.str()));
  }
}

void check_bits(int bits, std::string_view where) {
  if (bits != 8 && bits != 4) fail_data(where, cat(bits, " bits: expected 8 or 4"));
}

void check_group(int64_t group_size, std::string_view where) {
  if (group_size != 32 && group_size != 64 && group_size != 128) {
    fail_data(where, cat("group size ", group_size, ": expected 32, 64, 128, or one scale a row"));
  }
}

// [rows, columns] in the middle of a larger one filled with `fill`.
at::Tensor padded(const at::Tensor& x, int64_t rows, int64_t columns, int64_t fill) {
  if (x.size(0) == rows && x.size(1) == columns) return x;
  at::Tensor result = at::full({rows, columns}, fill, x.options());
  result.narrow(0, 0, x.size(0)).narrow(1, 0, x.size(1)).copy_(x);
  return result;
}

// [out, groups] -> [blocks, groups, 16] and back.
at::Tensor by_blocks(const at::Tensor& x, int64_t blocks, int64_t fill) {
  return padded(x, blocks * kColumns, x.size(1), fill)
      .view({blocks, kColumns, x.size(1)})
      .transpose(1, 2)
      .contiguous();
}
at::Tensor by_rows(const at::Tensor& x, int64_t out) {
  return x.transpose(1, 2).reshape({-1, x.size(1)}).narrow(0, 0, out).contiguous();
}

// Codes of whole blocks [n, bytes] -> [16 n, padded_in].
at::Tensor codes_of_blocks(const at::Tensor& codes, int bits) {
  const int64_t blocks = codes.size(0), words = codes.size(1) / (4 * kColumns);
  at::Tensor quads = codes.view({blocks, words, 1, kColumns, 4});
  if (bits == 4) quads = at::cat({quads.bitwise_and(15), quads.bitwise_right_shift(4)}, 2);
  return quads.permute({0, 3, 1, 2, 4}).reshape({blocks * kColumns, -1});
}

at::Tensor blocks_of_codes(const at::Tensor& codes, int bits) {
  const int64_t blocks = codes.size(0) / kColumns, parts = bits == 4 ? 2 : 1;
  const int64_t words = codes.size(1) / (4 * parts);
  const at::Tensor quads = codes.view({blocks, kColumns, words, parts, 4}).permute({0, 2, 3, 1, 4});
  if (bits == 8) return quads.reshape({blocks, -1}).contiguous();
  const at::Tensor high = quads.select(2, 1).bitwise_left_shift(4);
  return quads.select(2, 0).bitwise_or(high).reshape({blocks, -1}).contiguous();
}

void check_rows(const QuantizedRows& rows, const QuantizedMatrix& matrix) {
  constexpr std::string_view kWhere = "quantized weight";
  const std::vector<int64_t> shape = {matrix.out, matrix.groups()};
  const at::ScalarType type = matrix.per_row() ? at::kFloat : at::kHalf;
  const at::Device device = rows.codes.device();
  expect(rows.codes.contiguous(), at::kByte, {matrix.out, matrix.in}, device, kWhere, "codes");
  expect(rows.scales.contiguous(), type, shape, device, kWhere, "scales");
  if (rows.zeros.defined())
    expect(rows.zeros.contiguous(), at::kByte, shape, device, kWhere, "zeros");
}

}  // namespace

bool QuantizedMatrix::per_row() const {
  return scales.defined() && scales.scalar_type() == at::kFloat;
}
int64_t QuantizedMatrix::groups() const { return per_row() ? 1 : whole(in, group_size); }
int64_t QuantizedMatrix::blocks() const { return whole(out, kColumns); }
int64_t QuantizedMatrix::padded_in() const {
  const int64_t unit = per_row() ? kRowGroup : group_size;
  return whole(in, unit) * unit;
}
int64_t QuantizedMatrix::block_bytes() const { return padded_in() * kColumns * bits / 8; }
uint64_t QuantizedMatrix::bytes() const {
  return static_cast<uint64_t>(codes.nbytes() + scales.nbytes() +
                               (zeros.defined() ? zeros.nbytes() : 0) +
                               (columns.defined() ? columns.nbytes() : 0));
}

void QuantizedMatrix::check(std::string_view where) const {
  check_bits(bits, where);
  if (out < 1 || in < 1) fail_data(where, cat("an empty weight [", out, ", ", in, "]"));
  if (per_row() && group_size != in) {
    fail_data(where, cat("one scale a row with group size ", group_size, ", expected ", in));
  }
  if (!per_row()) check_group(group_size, where);
  const std::vector<int64_t> shape = {blocks(), groups(), kColumns};
  if (!codes.defined()) fail_data(where, "codes are missing");
  const at::Device device = codes.device();
  expect(codes, at::kByte, {blocks(), block_bytes()}, device, where, "codes");
  expect(scales, per_row() ? at::kFloat : at::kHalf, shape, device, where, "scales");
  if (zeros.defined()) expect(zeros, at::kByte, shape, device, where, "zeros");
  if (columns.defined()) expect(columns, at::kLong, {in}, device, where, "columns");
}

QuantizedMatrix QuantizedMatrix::to(at::Device device) const {
  QuantizedMatrix result = *this;
  for (at::Tensor* part : {&result.codes, &result.scales, &result.zeros, &result.columns}) {
    if (part->defined()) *part = part->to(device);
  }
  return result;
}

void QuantizedMatrix::set_columns(const at::Tensor& order, std::string_view where) {
  columns.reset();
  expect(order, at::kLong, {in}, at::kCPU, where, "columns");
  const at::Tensor in_order = at::arange(in);
  if (!at::equal(std::get<0>(order.sort()), in_order)) {
    fail_data(where, cat("columns: expected each of 0 to ", in - 1, " once"));
  }
  if (!at::equal(order, in_order)) columns = order;
}

QuantizedMatrix pack(const QuantizedRows& rows, int bits, int64_t group_size) {
  constexpr std::string_view kWhere = "quantized weight";
  check_bits(bits, kWhere);
  if (group_size != -1) check_group(group_size, kWhere);
  if (!rows.codes.defined() || rows.codes.dim() != 2 || rows.codes.numel() == 0) {
    fail_data(kWhere, "codes: expected a matrix [out, in]");
  }
  if (!rows.scales.defined()) fail_data(kWhere, "scales are missing");
  QuantizedMatrix matrix{rows.codes.size(0), rows.codes.size(1), bits,
                         group_size == -1 ? rows.codes.size(1) : group_size};
  // The type of the scales is what tells the two kinds apart: see per_row().
  matrix.scales = rows.scales.to(group_size == -1 ? at::kFloat : rows.scales.scalar_type());
  if (group_size != -1 && rows.scales.scalar_type() != at::kHalf) {
    fail_data(kWhere, cat("scales of groups are ", c10::toString(rows.scales.scalar_type()),
                          ", expected Half"));
  }
  check_rows({rows.codes, matrix.scales, rows.zeros}, matrix);
  if (rows.codes.max().item<int>() >= 1 << bits) {
    fail_data(kWhere, cat("a code is above ", (1 << bits) - 1));
  }
  const int64_t middle = 1 << (bits - 1), blocks = matrix.blocks();
  const at::Tensor codes =
      padded(rows.codes.contiguous(), blocks * kColumns, matrix.padded_in(), middle);
  matrix.codes = blocks_of_codes(codes, bits);
  matrix.scales = by_blocks(matrix.scales, blocks, 0);
  if (rows.zeros.defined()) matrix.zeros = by_blocks(rows.zeros, blocks, middle);
  return matrix;
}

QuantizedRows unpack(const QuantizedMatrix& matrix) {
  matrix.check("unpack");
  QuantizedRows rows;
  const at::Tensor codes = codes_of_blocks(matrix.codes, matrix.bits);
  rows.codes = codes.narrow(0, 0, matrix.out).narrow(1, 0, matrix.in).contiguous();
  rows.scales = by_rows(matrix.scales, matrix.out);
  if (matrix.zeros.defined()) rows.zeros = by_rows(matrix.zeros, matrix.out);
  return rows;
}

namespace {

// Codes [n, padded_in] with scales and zeros [n, groups] (or no zeros) -> [n, in] by the input.
at::Tensor numbers_of(const QuantizedMatrix& matrix, const at::Tensor& codes,
                      const at::Tensor& scales, const at::Tensor& zeros, at::ScalarType type) {
  const int64_t n = codes.size(0), middle = int64_t{1} << (matrix.bits - 1);
  at::Tensor w = codes.reshape({n, scales.size(1), -1}).to(at::kFloat);
  if (zeros.defined())
    w.sub_(zeros.to(at::kFloat).unsqueeze(-1));
  else
    w.sub_(middle);
  w.mul_(scales.to(at::kFloat).unsqueeze(-1));
  w = w.view({n, -1}).narrow(1, 0, matrix.in).to(type);
  if (!matrix.columns.defined()) return w.contiguous();
  return at::empty_like(w, at::MemoryFormat::Contiguous).index_copy_(1, matrix.columns, w);
}

}  // namespace

at::Tensor dequantize_by_operators(const QuantizedMatrix& matrix, int64_t begin, int64_t count,
                                   at::ScalarType type) {
  const int64_t first = begin / kColumns, blocks = whole(begin + count, kColumns) - first;
  const auto rows = [&](const at::Tensor& by_row) {
    return by_row.narrow(0, begin - first * kColumns, count);
  };
  const auto part = [&](const at::Tensor& by_block) {
    if (!by_block.defined()) return at::Tensor();
    return rows(by_rows(by_block.narrow(0, first, blocks), blocks * kColumns));
  };
  const at::Tensor codes = codes_of_blocks(matrix.codes.narrow(0, first, blocks), matrix.bits);
  return numbers_of(matrix, rows(codes), part(matrix.scales), part(matrix.zeros), type);
}

at::Tensor dequantize_rows_by_operators(const QuantizedMatrix& matrix, const at::Tensor& rows,
                                        at::ScalarType type) {
  const at::Tensor block = at::div(rows, kColumns, "floor"), column = rows - block * kColumns;
  const auto part = [&](const at::Tensor& by_block) {  // [blocks, groups, 16] -> [n, groups]
    if (!by_block.defined()) return at::Tensor();
    return by_block.index({block, at::indexing::Slice(), column});
  };
  // [blocks, words, 16, 4] -> [n, words, 4], and the nibbles of four bits one after the other.
  const int64_t words = matrix.codes.size(1) / (4 * kColumns);
  at::Tensor codes =
      matrix.codes.view({-1, words, kColumns, 4}).index({block, at::indexing::Slice(), column});
  if (matrix.bits == 4) {
    codes = at::stack({codes.bitwise_and(15), codes.bitwise_right_shift(4)}, 2);
  }
  return numbers_of(matrix, codes.reshape({rows.size(0), -1}), part(matrix.scales),
                    part(matrix.zeros), type);
}

at::Tensor dequantize(const QuantizedMatrix& matrix) {
  matrix.check("dequantize");
  return dequantize(matrix, 0, matrix.out, at::kFloat);
}

QuantizedMatrix quantize_rows(const at::Tensor& weight, int bits, int64_t group_size) {
  check_bits(bits, "quantize_rows");
  if (group_size != -1) check_group(group_size, "quantize_rows");
  if (weight.dim() != 2 || weight.numel() == 0 || !weight.is_floating_point()) {
    fail_data("quantize_rows", "expected a matrix [out, in] of floating point numbers");
  }
  const int64_t out = weight.size(0), in = weight.size(1);
  const int64_t group = group_size == -1 ? in : group_size, groups = whole(in, group);
  const int64_t middle = 1 << (bits - 1);
  at::Tensor w = weight.to(at::kFloat);
  if (groups * group != in) w = padded(w, out, groups * group, 0);
  w = w.view({out, groups, group});
  at::Tensor scales = w.abs().amax(-1) / static_cast<double>(middle - 1);
  if (!scales.isfinite().all().item<bool>()) fail_data("quantize_rows", "a weight is not finite");
  if (group_size != -1) {
    scales = scales.clamp_max(65504).to(at::kHalf);
  }
  const at::Tensor divisors = scales.to(at::kFloat).unsqueeze(-1);
  at::Tensor codes = at::where(divisors > 0, w / divisors, at::zeros({}, w.options()));
  codes = codes.round_().clamp_(-middle, middle - 1).add_(middle).to(at::kByte);
  codes = codes.view({out, groups * group}).narrow(1, 0, in).contiguous();
  return pack({codes, scales, {}}, bits, group_size);
}

}  // namespace llama2zh
