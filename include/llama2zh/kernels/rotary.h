#pragma once

#include <ATen/core/Tensor.h>

namespace llama2zh {

// Rotary position embedding in the half-split form of Hugging Face: pairs (x[i], x[i + d/2]).
// x [T, heads, d], cos and sin [T, d] fp32 (both halves alike) -> x's shape and type.
// Differentiable in x.
at::Tensor apply_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

// q and k of one layer, as above; one step for both where no gradient is wanted.
struct RotatedPair {
  at::Tensor q, k;
};
RotatedPair apply_rotary(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
                         const at::Tensor& sin);

}  // namespace llama2zh
