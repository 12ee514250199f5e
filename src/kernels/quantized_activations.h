#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/quantized_tiles.h"
#include "llama2zh/kernels/quantized_input.h"

namespace llama2zh {

// Memory for `rows` rows, uninitialised, and where its parts lie.
QuantizedInput empty_input(int64_t rows, const InputFormat& format);
Int8Activations activations_of(const QuantizedInput& input);

// Rows [begin, end) of x (contiguous), each on its own.
void quantize_rows_into(const float* x, int64_t begin, int64_t end, const QuantizedInput& input);
void quantize_rows_into(const c10::BFloat16* x, int64_t begin, int64_t end,
                        const QuantizedInput& input);

// All rows of x [n, in] (fp32 or bfloat16, contiguous).
QuantizedInput quantize_input(const at::Tensor& x, const InputFormat& format);

}  // namespace llama2zh
