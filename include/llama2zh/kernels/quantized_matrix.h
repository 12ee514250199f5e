#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace llama2zh {

struct QuantizedInput;  // quantized_input.h

// A frozen weight [out, in] in 8 or 4 bits: w = scale * (code - zero), with one scale (and zero) for
// `group_size` neighbours in a row, or for a whole row. The layout is the kernels' own and the same
// for every instruction set, so that a file of it is mapped and used as it is:
//   codes   uint8, blocks of 16 output columns. 8 bits: [out/16][in/4][16][4]; 4 bits:
//           [out/16][in/8][16][4], the low nibbles k to k+3, the high ones k+4 to k+7.
//   scales  [out/16, groups, 16]; fp16 by groups, fp32 where a row has one.
//   zeros   uint8 as scales; undefined: symmetric, 128 or 8 everywhere.
//   columns int64 [in]: column j of the codes belongs to input columns[j], each once; undefined: in
//           order. Groups of neighbours in the codes' order need not be neighbours in the input.
// `out` is padded to sixteen and `in` to whole groups (128 where a row has one scale) with zero
// weights.
struct QuantizedMatrix {
  int64_t out = 0, in = 0;
  int bits = 8;             // 8 | 4
  int64_t group_size = 32;  // 32 | 64 | 128, or `in` with one scale a row
  at::Tensor codes, scales, zeros, columns;

  bool per_row() const;         // one scale a row
  int64_t groups() const;       // scales a row
  int64_t blocks() const;       // of 16 columns
  int64_t padded_in() const;    // what a row of codes holds
  int64_t block_bytes() const;  // of codes
  uint64_t bytes() const;       // of all its tensors
  at::Device device() const { return codes.device(); }
  QuantizedMatrix to(at::Device device) const;  // no copy where it is there already
  // Shapes and types are as above, on one device; kData with `where` in front otherwise. Costs
  // nothing: no element is read (set_columns() has looked at those).
  void check(std::string_view where) const;
  // Takes `order` as columns, or none where it is 0, 1, 2, ...; kData unless it holds each of
  // [0, in) once.
  void set_columns(const at::Tensor& order, std::string_view where);
};

// Codes, scales and zeros in the order of the codes.
struct QuantizedRows {
  at::Tensor codes;   // [out, in] uint8, below 2^bits
  at::Tensor scales;  // [out, groups]: fp16; fp32 with one scale a row
  at::Tensor zeros;   // [out, groups] uint8; undefined: symmetric
};

// Into and out of the kernels' layout. group_size -1: one scale a row. kData where shapes, types or
// bits do not fit together.
QuantizedMatrix pack(const QuantizedRows& rows, int bits, int64_t group_size);
QuantizedRows unpack(const QuantizedMatrix& matrix);

// Rows [begin, begin + count) of the weight in fp32 or bfloat16; all of them in fp32.
at::Tensor dequantize(const QuantizedMatrix& matrix, int64_t begin, int64_t count,
                      at::ScalarType type);
at::Tensor dequantize(const QuantizedMatrix& matrix);
// Those rows, [n] int64 on the matrix's device -> [n, in].
at::Tensor dequantize_rows(const QuantizedMatrix& matrix, const at::Tensor& rows,
                           at::ScalarType type);

// Symmetric, to the nearest: scale = max |w| / (2^(bits-1) - 1) over a group or row, as stored (fp16
// scales are rounded first), code = round(w / scale) + 2^(bits-1). A group of zeros has scale 0.
// weight [out, in] of any float type; group_size -1: one scale a row.
QuantizedMatrix quantize_rows(const at::Tensor& weight, int bits, int64_t group_size);

// What a product does with its input:
enum class Activations {
  // Rounded to 8 bits, symmetric, with one scale for each group of a row (128 neighbours where the
  // weight has one scale a row); integer products, groups added up in fp32 in order of k. The same
  // bits on every instruction set.
  kInt8,
  // Taken as fp32, and the weights decoded to fp32; added up in order of k.
  kFloat,
};

// y = x W^T for x [n, in] in bfloat16 or fp32 on a CPU -> [n, out] in x's type; no autograd. The bits
// of a row of y depend on that row of x alone: not on n, nor on the number of threads. On any other
// device dequantized_product() stands in, whatever `activations` says (see operator_weight.h).
at::Tensor quantized_product(const at::Tensor& x, const QuantizedMatrix& matrix,
                             Activations activations);
// Products of one x with several matrices, as if each were alone; x is prepared once where it can be
// (the same groups, in the same order), and threads meet once. `prepared`: x in 8 bits, where it was
// made already, of as many rows; may be null. Matrices that want another format make their own.
std::vector<at::Tensor> quantized_products(const at::Tensor& x,
                                           std::span<const QuantizedMatrix* const> matrices,
                                           Activations activations,
                                           const QuantizedInput* prepared = nullptr);

// As above for x [..., in], and differentiable with respect to x. Where a gradient is wanted, forward
// and backward multiply by rows of the weight dequantized to x's type a few at a time: the weight
// itself is exact in both, and no dequantized copy of it outlives a call.
at::Tensor quantized_linear(const at::Tensor& x, const QuantizedMatrix& matrix,
                            Activations activations);
// A GPU dequantizes so many numbers at a time, through fp32.
inline constexpr int64_t kDecodedOnDevice = 32 * 1024 * 1024;
// That product of x [n, in] with the weight as it is, without autograd, and the gradient
// y_grad W [n, in] of its input. y_grad [n, out]. The matrix may be on another device than they are.
at::Tensor dequantized_product(const at::Tensor& x, const QuantizedMatrix& matrix);
at::Tensor quantized_input_grad(const at::Tensor& y_grad, const QuantizedMatrix& matrix);

}  // namespace llama2zh
