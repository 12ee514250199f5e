#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/quantized_tiles.h"
#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// The matrix as the inner loops see it; valid while its tensors live.
PackedWeight packed_weight(const QuantizedMatrix& matrix);

// dequantize() and dequantize_rows() by libtorch's operators, on any device; the same bits.
at::Tensor dequantize_by_operators(const QuantizedMatrix& matrix, int64_t begin, int64_t count,
                                   at::ScalarType type);
at::Tensor dequantize_rows_by_operators(const QuantizedMatrix& matrix, const at::Tensor& rows,
                                        at::ScalarType type);

// quantized_product() with 8-bit activations by one of the inner loops, for tests.
at::Tensor quantized_product_with(const at::Tensor& x, const QuantizedMatrix& matrix,
                                  Int8Product product);

}  // namespace llama2zh
