// Rotary position embedding (Su et al. 2021), half-split form: with x = [a, b] halves of a head,
//   y = [a cos - b sin, b cos + a sin],
// computed in fp32 and rounded once. It is a rotation, so its gradient is the rotation by the
// negative angle and nothing of x has to be kept.
#include "llama2zh/kernels/rotary.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <torch/csrc/autograd/custom_function.h>

namespace llama2zh {
namespace {

// half_cos, half_sin: [T, 1, d/2]
at::Tensor rotate(const at::Tensor& x, const at::Tensor& half_cos, const at::Tensor& half_sin) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor x32 = x.to(at::kFloat);
  const at::Tensor a = x32.narrow(-1, 0, half);
  const at::Tensor b = x32.narrow(-1, half, half);
  const at::Tensor y =
      at::cat({(a * half_cos).sub_(b * half_sin), (b * half_cos).add_(a * half_sin)}, -1);
  return y.to(x.scalar_type());
}

class RotaryFunction : public torch::autograd::Function<RotaryFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& half_cos, const at::Tensor& half_sin) {
    ctx->save_for_backward({half_cos, half_sin});
    return rotate(x, half_cos, half_sin);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {rotate(grads[0], saved[0], saved[1].neg()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor apply_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  return RotaryFunction::apply(x, cos.narrow(-1, 0, half).unsqueeze(1),
                               sin.narrow(-1, 0, half).unsqueeze(1));
}

}  // namespace llama2zh
