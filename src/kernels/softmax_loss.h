#pragma once

#include <ATen/core/Tensor.h>

namespace llama2zh {

struct SoftmaxLossTerms {
  double label_smoothing = 0;
  double z_loss = 0;
};

// Cross-entropy of logits z [n, V] (contiguous float32 or bfloat16 on a CPU) with labels [n] in
// [0, V), e label smoothing, c z-loss, L = logsumexp(z), in fp32:
//   L - (1 - e) z[label] - e mean(z) + c L^2, summed over the rows.
// With `gradient` the logits are overwritten by the gradient of that sum.
double softmax_loss_(at::Tensor& logits, const at::Tensor& labels, const SoftmaxLossTerms& terms,
                     bool gradient);
bool has_softmax_loss_kernel(const at::Tensor& logits);

}  // namespace llama2zh
