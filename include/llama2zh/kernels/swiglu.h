#pragma once

#include <ATen/core/Tensor.h>

namespace llama2zh {

// silu(gate) * up (Shazeer 2020), silu rounded to gate's type before the product as Hugging Face
// does. gate and up alike in shape and type. Differentiable in both; keeps only gate and up.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace llama2zh
