// Root mean square normalisation (Zhang and Sennrich 2019) with Hugging Face's order of casts:
//   n = (x * r) in fp32, r = rsqrt(mean(x^2) + eps);  y = n cast to x's type, times w.
// Written as one autograd function, so that a training step keeps x and r [..., 1] instead of half
// a dozen fp32 copies of x. With u = dy * w, h the row length:
//   dx = r * u - x * r^3 * sum(u * x) / h,   dw = sum over rows of dy * n.
#include "llama2zh/kernels/rms_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/rsqrt.h>
#include <torch/csrc/autograd/custom_function.h>

namespace llama2zh {
namespace {

at::Tensor inverse_rms(const at::Tensor& x32, double eps) {
  return at::rsqrt(x32.square().mean(-1, /*keepdim=*/true).add_(eps));
}

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& weight, double eps) {
    const at::Tensor x32 = x.to(at::kFloat);
    const at::Tensor r = inverse_rms(x32, eps);
    ctx->save_for_backward({x, weight, r});
    return (x32 * r).to(x.scalar_type()) * weight.to(x.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor x32 = saved[0].to(at::kFloat);
    const at::Tensor& weight = saved[1];
    const at::Tensor& r = saved[2];
    const at::Tensor dy = grads[0].to(at::kFloat);
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      const at::Tensor u = dy * weight.to(at::kFloat);
      const at::Tensor mean = (u * x32).mean(-1, /*keepdim=*/true);
      dx = (u * r).sub_(x32 * (r.pow(3) * mean)).to(saved[0].scalar_type());
    }
    if (ctx->needs_input_grad(1)) {
      dw = (dy * (x32 * r)).reshape({-1, x32.size(-1)}).sum(0).to(weight.scalar_type());
    }
    return {dx, dw, at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

}  // namespace llama2zh
