#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

// The head and its loss in one, so that the logits [T, V] never exist as a whole: sum over rows
// with labels >= 0 of -log softmax(hidden W^T)[label]. hidden [T, H] in the compute type, weight
// [V, H] (a trained fp32 master is cast to the compute type once), labels [T] int64, negative =
// ignored (those rows cost nothing). Logits are computed chunk_rows rows at a time, in fp32 for the
// softmax. -> fp32 scalar. Differentiable in hidden and weight; the gradients are formed in the
// same pass, so backward is a multiplication.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels, int64_t chunk_rows = 1024);

}  // namespace llama2zh
