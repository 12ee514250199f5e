#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/quantized_tiles.h"
#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// The matrix as the inner loops see it; valid while its tensors live.
PackedWeight packed_weight(const QuantizedMatrix& matrix);

// quantized_product() with 8-bit activations by one of the inner loops, for tests.
at::Tensor quantized_product_with(const at::Tensor& x, const QuantizedMatrix& matrix,
                                  Int8Product product);

}  // namespace llama2zh
