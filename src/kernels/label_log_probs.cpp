// Log-probabilities of labels from hidden states and head, for losses that are no sum over tokens
// (preferences: a sequence's log-probability goes through a function of its own). Rows without a
// label are dropped first. Forward keeps logsumexp of each row; backward forms the logits of a
// chunk once more and with p = exp(logits - logsumexp) and g the token's gradient
//   dlogits = g (onehot(label) - p);  dhidden = dlogits W;  dW += dlogits^T hidden   (dW in fp32)
#include "llama2zh/kernels/label_log_probs.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// hidden [N, H] and weight [V, H] in the compute type.
at::Tensor chunk_logits(const at::Tensor& hidden, const at::Tensor& weight) {
  return at::mm(hidden, weight.t()).to(at::kFloat);
}

struct LogProbGrads {
  at::Tensor hidden;  // [N, H], or undefined
  at::Tensor weight;  // [V, H] fp32, or undefined
};

// grad [N] fp32: of each labelled row's log-probability; lse [N, 1].
LogProbGrads log_prob_grads(const at::Tensor& hidden, const at::Tensor& weight,
                            const at::Tensor& labels, const at::Tensor& lse, const at::Tensor& grad,
                            int64_t chunk_rows, bool needs_hidden, bool needs_weight) {
  LogProbGrads result;
  if (needs_hidden) result.hidden = at::empty(hidden.sizes(), hidden.options());
  if (needs_weight) result.weight = at::zeros(weight.sizes(), weight.options().dtype(at::kFloat));
  for (int64_t begin = 0; begin < hidden.size(0); begin += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, hidden.size(0) - begin);
    const at::Tensor chunk = hidden.narrow(0, begin, rows);
    const at::Tensor token_grad = grad.narrow(0, begin, rows).unsqueeze(1);
    at::Tensor logits = chunk_logits(chunk, weight);
    logits.sub_(lse.narrow(0, begin, rows)).exp_().mul_(-token_grad);
    logits.scatter_add_(1, labels.narrow(0, begin, rows).unsqueeze(1), token_grad);
    const at::Tensor logits_grad = logits.to(hidden.scalar_type());
    if (needs_hidden) result.hidden.narrow(0, begin, rows).copy_(at::mm(logits_grad, weight));
    if (needs_weight) result.weight.add_(at::mm(logits_grad.t(), chunk));
  }
  return result;
}

class LabelLogProbsFunction : public torch::autograd::Function<LabelLogProbsFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const at::Tensor& labels,
                            int64_t chunk_rows) {
    const at::Tensor rows = labels.ge(0).nonzero().squeeze(1);
    const at::ScalarType type = product_type(hidden);
    const at::Tensor labelled = hidden.index_select(0, rows).to(type), head = weight.to(type);
    const at::Tensor label = labels.index_select(0, rows);
    const auto fp32 = hidden.options().dtype(at::kFloat);
    const at::Tensor lse = at::empty({label.size(0), 1}, fp32);
    at::Tensor result = at::zeros({hidden.size(0)}, fp32);
    const at::Tensor found = at::empty({label.size(0)}, fp32);
    for (int64_t begin = 0; begin < label.size(0); begin += chunk_rows) {
      const int64_t count = std::min(chunk_rows, label.size(0) - begin);
      const at::Tensor logits = chunk_logits(labelled.narrow(0, begin, count), head);
      const at::Tensor sums = at::logsumexp(logits, {1}, /*keepdim=*/true);
      const at::Tensor index = label.narrow(0, begin, count).unsqueeze(1);
      lse.narrow(0, begin, count).copy_(sums);
      found.narrow(0, begin, count).copy_((logits.gather(1, index) - sums).squeeze(1));
    }
    result.index_copy_(0, rows, found);
    ctx->save_for_backward({hidden, weight, labels, lse});
    ctx->saved_data["chunk_rows"] = chunk_rows;
    return result;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &hidden = saved[0], &weight = saved[1], &labels = saved[2];
    const at::Tensor rows = labels.ge(0).nonzero().squeeze(1);
    const at::ScalarType type = product_type(hidden);
    const LogProbGrads result = log_prob_grads(
        hidden.index_select(0, rows).to(type), weight.to(type), labels.index_select(0, rows),
        saved[3], grads[0].to(at::kFloat).index_select(0, rows),
        ctx->saved_data["chunk_rows"].toInt(), ctx->needs_input_grad(0), ctx->needs_input_grad(1));
    at::Tensor hidden_grad, weight_grad;
    if (result.hidden.defined()) {
      hidden_grad = at::zeros(hidden.sizes(), hidden.options())
                        .index_copy_(0, rows, result.hidden.to(hidden.scalar_type()));
    }
    if (result.weight.defined()) weight_grad = result.weight.to(weight.scalar_type());
    return {hidden_grad, weight_grad, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor label_log_probs(const at::Tensor& hidden, const at::Tensor& weight,
                           const at::Tensor& labels, int64_t chunk_rows) {
  TORCH_CHECK(chunk_rows > 0, "label_log_probs: chunk_rows must be positive");
  return LabelLogProbsFunction::apply(hidden, weight, labels, chunk_rows);
}

}  // namespace llama2zh
