#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/quantized_tiles.h"

namespace llama2zh {

// The rows of x [n, in] (fp32 or bfloat16, contiguous) in 8 bits by the weight's groups. `result`
// points into the buffer that is returned.
at::Tensor quantize_activations(const at::Tensor& x, const PackedWeight& weight,
                                Int8Activations& result);

}  // namespace llama2zh
