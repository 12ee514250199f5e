#pragma once

#include <ATen/core/Tensor.h>

namespace llama2zh {

// x [..., H] -> [..., H]: in fp32 x * rsqrt(mean(x^2) + eps), cast back to x's type, then times
// weight [H] (Hugging Face's order of casts). Differentiable in both.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// x + update, and rms_norm() of that sum. Without gradients a CPU goes over a row once for both; the
// bits are the same.
struct NormedSum {
  at::Tensor sum, normed;
};
NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& update, const at::Tensor& weight,
                       double eps);

}  // namespace llama2zh
