// A linear layer with an optional low-rank update (Hu et al. 2021). The masters of A and B are cast
// to the product's type, as PyTorch's autocast does; scaling is applied to the narrow [.., r] intermediate.
#include "llama2zh/nn/linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/linear.h>

#include "llama2zh/kernels/product.h"
#include "nn/lora_product.h"

namespace llama2zh {

at::Tensor Linear::forward(const at::Tensor& x, bool training) const {
  const at::Tensor input = x.to(product_type(x));
  if (lora && input.is_cpu() && !weight.requires_grad()) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return lora_product(input.reshape({-1, input.size(-1)}), weight, *lora,
                        training ? lora->dropout : 0)
        .view(shape)
        .to(x.scalar_type());
  }
  const at::Tensor y = linear_product(input, weight);
  if (!lora) return y.to(x.scalar_type());
  const at::Tensor branch =
      training && lora->dropout > 0 ? at::dropout(input, lora->dropout, /*train=*/true) : input;
  const at::ScalarType type = input.scalar_type();
  const at::Tensor low = at::linear(branch, lora->a.to(type)) * lora->scaling;
  return at::addmm(y.view({-1, y.size(-1)}), low.view({-1, low.size(-1)}), lora->b.to(type).t())
      .view(y.sizes())
      .to(x.scalar_type());
}

}  // namespace llama2zh
