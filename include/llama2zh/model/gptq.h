#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// GPTQ (Frantar et al. 2022): codes are chosen column by column, and what rounding a column has
// changed of the layer's output on the calibration rows is made good by the columns after it.
// weight [out, in] of any float type; `hessian` [in, in]; damping: share of the mean diagonal that is
// added to it. Symmetric, with the zero in the middle; scales are searched so that the squared error
// weighted by the hessian's diagonal is least, and with 4 bits may be negative, so that the one code
// more on the lower side serves the larger end. Weights of inputs that never occurred are rounded to
// the nearest. kData where the hessian is not finite.
QuantizedMatrix gptq_quantize(const at::Tensor& weight, const at::Tensor& hessian, int bits,
                              int64_t group_size, double damping = 0.01);

}  // namespace llama2zh
