#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

// log softmax(hidden W^T)[label] of every token, without the logits [T, V] ever existing as a
// whole. hidden [T, H] in the compute type, weight [V, H] (an fp32 master is cast to the compute
// type once), labels [T] int64, negative = ignored: 0 there, at no cost. Logits are computed
// chunk_rows rows at a time, in fp32 for the softmax. -> [T] fp32. Differentiable in hidden and
// weight, with a gradient for each token; backward computes the logits again.
at::Tensor label_log_probs(const at::Tensor& hidden, const at::Tensor& weight,
                           const at::Tensor& labels, int64_t chunk_rows = 1024);

}  // namespace llama2zh
