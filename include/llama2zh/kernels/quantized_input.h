#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// How products with a quantized weight want their input in 8 bits (Activations::kInt8).
struct InputFormat {
  int64_t in = 0, group = 0, groups = 0;
  // Codes of the weight stand for code - zero, so a group's integer sum starts from -zero times the sum
  // of the input's codes. Where all zeros are alike that product is stored (factor: the zero), else
  // the sum alone (factor: 1).
  int factor = 0;

  static InputFormat of(const QuantizedMatrix& matrix);
  int64_t padded_in() const { return group * groups; }
  // Bytes from row to row of codes: an odd number of cache lines. Tiles read 8 or 16 rows side by side,
  // and rows 4096 bytes apart would share the lines of one set of the first-level cache.
  int64_t stride() const { return ((padded_in() + 63) / 64 | 1) * 64; }
  bool operator==(const InputFormat&) const = default;
};

// An input [rows, in] of products in that form. Made where the input itself is made (rms_norm.h), a
// row is still in cache; else the products make it.
struct QuantizedInput {
  InputFormat format;
  int64_t rows = 0;
  at::Tensor memory;  // codes int8 [rows, stride], scales fp32 and
                      // offsets int32 [rows, groups]: -factor times the sum of a group's codes

  bool empty() const { return !memory.defined(); }
};

}  // namespace llama2zh
