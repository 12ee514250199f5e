// With d = dropout(x), l = scaling d A^T [n, r] and t the gradient of y = x W^T + l B^T:
//   dB = t^T l,   u = scaling t B [n, r],   dA = u^T d,   dx = t W + dropout's mask * (u A).
// d is formed again in backward. A and B are fp32 masters, cast to x's type for the products.
#include "nn/lora_product.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "llama2zh/kernels/dropout.h"
#include "llama2zh/kernels/few_row_product.h"
#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

class LoraProductFunction : public torch::autograd::Function<LoraProductFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& input,
                            const at::Tensor& a, const at::Tensor& b, const Linear& linear,
                            bool trains, double p) {
    const double scaling = linear.lora->scaling;
    const at::Tensor kept = input.contiguous();
    const at::ScalarType type = linear.quantized ? kept.scalar_type() : large_product_type(kept);
    const at::Tensor x = kept.to(type);
    const HashedDropout dropout = p > 0 ? HashedDropout::draw(p) : HashedDropout(0, 0);
    const bool invariant = !trains && InvariantProducts::active();
    const at::Tensor dropped = p > 0 ? dropout.apply(x) : x, narrow = a.to(type);
    const at::Tensor low =
        (invariant ? linear_product(dropped, narrow) : at::linear(dropped, narrow)).mul_(scaling);
    at::Tensor y = linear.quantized && trains ? dequantized_product(x, *linear.quantized)
                                              : linear.base_product(x);
    if (invariant) {
      y.add_(linear_product(low, b.to(type)));
    } else {
      y.addmm_(low, b.to(type).t());
    }
    const QuantizedMatrix matrix = linear.quantized ? *linear.quantized : QuantizedMatrix{};
    ctx->save_for_backward({kept, linear.weight, a, b, low, matrix.codes, matrix.scales,
                            matrix.zeros, matrix.columns});
    ctx->saved_data["shape"] =
        std::vector<int64_t>{matrix.out, matrix.in, matrix.bits, matrix.group_size};
    ctx->saved_data["scaling"] = scaling;
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = static_cast<int64_t>(dropout.seed());
    return y.to(kept.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &weight = saved[1], &a = saved[2], &b = saved[3], &low = saved[4];
    const at::ScalarType type = low.scalar_type();  // of the products
    const at::Tensor x = saved[0].to(type), t = grads[0].contiguous().to(type);
    const double p = ctx->saved_data["p"].toDouble();
    const HashedDropout dropout(p, static_cast<uint64_t>(ctx->saved_data["seed"].toInt()));
    // A wide product with a narrow one is fastest with the narrow one's transpose in front.
    const at::Tensor db = at::mm(low.t(), t).t().to(b.scalar_type());
    const at::Tensor u = at::mm(t, b.to(type)).mul_(ctx->saved_data["scaling"].toDouble());
    const at::Tensor da = at::mm(u.t(), p > 0 ? dropout.apply(x) : x).to(a.scalar_type());
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) {
      dx = saved[5].defined() ? quantized_input_grad(t, saved_matrix(ctx, saved))
                              : product_input_grad(t, weight);
      if (p > 0) {
        dropout.add_to(dx, at::mm(u, a.to(type)));
      } else {
        dx.addmm_(u, a.to(type));
      }
    }
    if (dx.defined()) dx = dx.to(saved[0].scalar_type());
    return {dx, da, db, at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static QuantizedMatrix saved_matrix(torch::autograd::AutogradContext* ctx,
                                      const torch::autograd::variable_list& saved) {
    const std::vector<int64_t> shape = ctx->saved_data["shape"].toIntVector();
    return {shape[0], shape[1], static_cast<int>(shape[2]), shape[3], saved[5], saved[6],
            saved[7], saved[8]};
  }
};

}  // namespace

at::Tensor lora_product(const at::Tensor& x, const Linear& linear, double dropout) {
  const at::Tensor &a = linear.lora->a, &b = linear.lora->b;
  const bool trains =
      at::GradMode::is_enabled() && (x.requires_grad() || a.requires_grad() || b.requires_grad());
  return LoraProductFunction::apply(x, a, b, linear, trains, dropout);
}

}  // namespace llama2zh
