#pragma once

#include <ATen/core/Tensor.h>

#include "llama2zh/nn/linear.h"

namespace llama2zh {

// x W^T + scaling (dropout(x) A^T) B^T for x [n, in] on a CPU and a frozen W (dense or quantized),
// as one autograd
// function: the update is added in place, and of the branch only x, the narrow product and the
// dropout's seed are kept. dropout 0: none.
at::Tensor lora_product(const at::Tensor& x, const Linear& linear, double dropout);

}  // namespace llama2zh
