#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "llama2zh/kernels/quantized_input.h"

namespace llama2zh {

// x [..., H] -> [..., H]: in fp32 x * rsqrt(mean(x^2) + eps), cast back to x's type, then times
// weight [H] (Hugging Face's order of casts). Differentiable in both.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// A norm's result as the input of products: with its 8 bits where they were asked for by `into` and
// could be made (on a CPU, without gradients, [n, H]); those of quantized_products(), made while a
// row is in cache.
struct NormedInput {
  at::Tensor x;
  QuantizedInput codes;
};
NormedInput rms_norm_input(const at::Tensor& x, const at::Tensor& weight, double eps,
                           const std::optional<InputFormat>& into);

// x + update, and rms_norm_input() of that sum. Without gradients a CPU goes over a row once for all
// three; the bits are the same.
struct NormedSum {
  at::Tensor sum;
  NormedInput normed;
};
NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& update, const at::Tensor& weight,
                       double eps, const std::optional<InputFormat>& into = {});

}  // namespace llama2zh
