#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

struct LossOptions {
  int64_t chunk_rows = 1024;   // rows whose logits exist at once
  double label_smoothing = 0;  // e: (1 - e) nll + e (mean over the vocabulary of -log p)
  double z_loss = 0;           // adds z_loss * logsumexp(logits)^2
};

// The head and its loss in one, so that the logits [T, V] never exist as a whole: sum over rows
// with labels >= 0 of -log softmax(hidden W^T)[label], smoothed and penalised as the options say.
// hidden [T, H] in the compute type, weight [V, H] (a trained fp32 master is cast to the compute
// type once), labels [T] int64, negative = ignored (those rows cost nothing). The softmax is in
// fp32. -> fp32 scalar. Differentiable in hidden and weight; the gradients are formed in the same
// pass, so backward is a multiplication.
// trained_rows [n, H], where given, stands in for the last n rows of a frozen weight, and only it
// gets a gradient.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels, const LossOptions& options = {},
                                const at::Tensor& trained_rows = {});

}  // namespace llama2zh
