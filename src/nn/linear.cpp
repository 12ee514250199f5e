// A linear layer with an optional low-rank update (Hu et al. 2021). The masters of A and B are cast
// to the activations' type for the product, as PyTorch's autocast does; scaling is applied to the
// narrow [.., r] intermediate.
#include "llama2zh/nn/linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/linear.h>

namespace llama2zh {

at::Tensor Linear::forward(const at::Tensor& x, bool training) const {
  const at::ScalarType type = x.scalar_type();
  const at::Tensor y = at::linear(x, weight.to(type));
  if (!lora) return y;
  const at::Tensor input =
      training && lora->dropout > 0 ? at::dropout(x, lora->dropout, /*train=*/true) : x;
  const at::Tensor low = at::linear(input, lora->a.to(type)) * lora->scaling;
  return at::addmm(y.view({-1, y.size(-1)}), low.view({-1, low.size(-1)}), lora->b.to(type).t())
      .view(y.sizes());
}

}  // namespace llama2zh
