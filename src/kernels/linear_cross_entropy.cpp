// The language model's head fused with its loss. Rows without a label are dropped before the matrix
// product; the others go through in chunks, and as soon as a chunk's softmax p is there its
// gradients are formed from the same buffer:
//   dlogits = p - onehot(label);  dhidden = dlogits W;  dW += dlogits^T hidden   (dW in fp32)
// so that at no time more than one chunk of logits exists. backward() scales these by the incoming
// gradient. Same idea as Liger Kernel's fused linear cross-entropy and TRL's chunked_nll.
#include "llama2zh/kernels/linear_cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

struct HeadLoss {
  at::Tensor loss;         // fp32 scalar
  at::Tensor hidden_grad;  // [N, H] of the supervised rows in hidden's type, or undefined
  at::Tensor weight_grad;  // [V, H] fp32, or undefined
};

void accumulate_weight_grad(at::Tensor& total, const at::Tensor& logits_grad,
                            const at::Tensor& hidden) {
  if (hidden.scalar_type() == at::kFloat) {
    total.addmm_(logits_grad.t(), hidden);
  } else {
    total.add_(at::mm(logits_grad.t(), hidden));
  }
}

// hidden [N, H] and weight [V, H] in the compute type, labels [N].
HeadLoss head_loss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                   int64_t chunk_rows, bool needs_hidden, bool needs_weight) {
  const auto fp32 = hidden.options().dtype(at::kFloat);
  HeadLoss result;
  result.loss = at::zeros({}, fp32);
  if (needs_hidden) result.hidden_grad = at::zeros(hidden.sizes(), hidden.options());
  if (needs_weight) result.weight_grad = at::zeros(weight.sizes(), fp32);
  for (int64_t begin = 0; begin < hidden.size(0); begin += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, hidden.size(0) - begin);
    const at::Tensor chunk = hidden.narrow(0, begin, rows);
    const at::Tensor label = labels.narrow(0, begin, rows).unsqueeze(1);
    at::Tensor logits = at::mm(chunk, weight.t()).to(at::kFloat);
    const at::Tensor lse = at::logsumexp(logits, {1}, /*keepdim=*/true);
    result.loss.add_((lse - logits.gather(1, label)).sum());
    if (!needs_hidden && !needs_weight) continue;
    logits.sub_(lse).exp_();
    logits.scatter_add_(1, label, at::zeros({rows, 1}, fp32).sub_(1));
    const at::Tensor logits_grad = logits.to(hidden.scalar_type());
    if (needs_hidden) result.hidden_grad.narrow(0, begin, rows).copy_(at::mm(logits_grad, weight));
    if (needs_weight) accumulate_weight_grad(result.weight_grad, logits_grad, chunk);
  }
  return result;
}

class LinearCrossEntropyFunction : public torch::autograd::Function<LinearCrossEntropyFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const at::Tensor& labels, int64_t chunk_rows,
                            bool needs_hidden, bool needs_weight) {
    const at::Tensor rows = labels.ge(0).nonzero().squeeze(1);
    const at::ScalarType type = product_type(hidden);
    HeadLoss head = head_loss(hidden.index_select(0, rows).to(type), weight.to(type),
                              labels.index_select(0, rows), chunk_rows, needs_hidden, needs_weight);
    if (needs_hidden) {
      ctx->saved_data["hidden_grad"] = head.hidden_grad.to(hidden.scalar_type());
      ctx->saved_data["rows"] = rows;
      ctx->saved_data["total_rows"] = hidden.size(0);
    }
    if (needs_weight) {
      ctx->saved_data["weight_grad"] = head.weight_grad;
      ctx->saved_data["weight_type"] = static_cast<int64_t>(weight.scalar_type());
    }
    return head.loss;
  }

  // Scales the stored gradients in place (the weight's is as large as the head itself), hence once.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    TORCH_CHECK(!ctx->saved_data.empty(), "linear_cross_entropy: backward ran already");
    auto& saved = ctx->saved_data;
    at::Tensor hidden_grad, weight_grad;
    if (saved.count("hidden_grad") != 0) {
      at::Tensor supervised = saved["hidden_grad"].toTensor();
      supervised.mul_(grads[0]);
      hidden_grad =
          at::zeros({saved["total_rows"].toInt(), supervised.size(1)}, supervised.options())
              .index_copy_(0, saved["rows"].toTensor(), supervised);
    }
    if (saved.count("weight_grad") != 0) {
      weight_grad = saved["weight_grad"].toTensor();
      weight_grad.mul_(grads[0]);
      weight_grad = weight_grad.to(static_cast<at::ScalarType>(saved["weight_type"].toInt()));
    }
    saved.clear();
    return {hidden_grad, weight_grad, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels, int64_t chunk_rows) {
  TORCH_CHECK(chunk_rows > 0, "linear_cross_entropy: chunk_rows must be positive");
  const bool grad = at::GradMode::is_enabled();
  return LinearCrossEntropyFunction::apply(hidden, weight, labels, chunk_rows,
                                           grad && hidden.requires_grad(),
                                           grad && weight.requires_grad());
}

}  // namespace llama2zh
