// The language model's head fused with its loss. Rows without a label are dropped before the matrix
// product; the others go through in chunks, and as soon as a chunk's softmax p is there its
// gradients are formed from the same buffer:
//   dlogits = p - onehot(label);  dhidden = dlogits W;  dW += dlogits^T hidden   (dW in fp32)
// so that at no time more than one chunk of logits exists. backward() scales these by the incoming
// gradient. Same idea as Liger Kernel's fused linear cross-entropy and TRL's chunked_nll.
// With z the logits of a row, L = logsumexp(z), e the label smoothing (transformers' LabelSmoother)
// and c the z-loss (PaLM, Chowdhery et al. 2022):
//   loss = L - (1 - e) z[label] - e mean(z) + c L^2
//   dlogits = (1 + 2 c L) p - (1 - e) onehot(label) - e / V
#include "llama2zh/kernels/linear_cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

struct HeadLoss {
  at::Tensor loss;         // fp32 scalar
  at::Tensor hidden_grad;  // [N, H] of the supervised rows in hidden's type, or undefined
  at::Tensor weight_grad;  // [V - first_row, H] fp32, or undefined
};

constexpr int64_t kNoRow = -1;

void accumulate_weight_grad(at::Tensor& total, const at::Tensor& logits_grad,
                            const at::Tensor& hidden) {
  if (hidden.scalar_type() == at::kFloat) {
    total.addmm_(logits_grad.t(), hidden);
  } else {
    total.add_(at::mm(logits_grad.t(), hidden));
  }
}

// Sum of the losses of a chunk. lse [n, 1].
at::Tensor chunk_loss(const at::Tensor& logits, const at::Tensor& lse, const at::Tensor& label,
                      const LossOptions& options) {
  const double e = options.label_smoothing;
  at::Tensor loss = lse - logits.gather(1, label) * (1 - e);
  if (e > 0) loss.sub_(logits.mean(1, /*keepdim=*/true), e);
  if (options.z_loss > 0) loss.add_(lse.square(), options.z_loss);
  return loss.sum();
}

// Turns logits into their gradient in place.
void logits_gradient_(at::Tensor& logits, const at::Tensor& lse, const at::Tensor& label,
                      const LossOptions& options) {
  const double e = options.label_smoothing;
  logits.sub_(lse).exp_();
  if (options.z_loss > 0) logits.mul_(lse * (2 * options.z_loss) + 1);
  if (e > 0) logits.sub_(e / static_cast<double>(logits.size(1)));
  logits.scatter_add_(1, label, at::full(label.sizes(), e - 1, logits.options()));
}

// hidden [N, H] and weight [V, H] in the compute type, labels [N]; the weight's gradient is formed
// for rows from first_row on, or not at all (kNoRow).
HeadLoss head_loss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                   const LossOptions& options, bool needs_hidden, int64_t first_row) {
  const auto fp32 = hidden.options().dtype(at::kFloat);
  const bool needs_weight = first_row != kNoRow;
  const int64_t trained = weight.size(0) - first_row;
  HeadLoss result;
  result.loss = at::zeros({}, fp32);
  if (needs_hidden) result.hidden_grad = at::zeros(hidden.sizes(), hidden.options());
  if (needs_weight) result.weight_grad = at::zeros({trained, weight.size(1)}, fp32);
  for (int64_t begin = 0; begin < hidden.size(0); begin += options.chunk_rows) {
    const int64_t rows = std::min(options.chunk_rows, hidden.size(0) - begin);
    const at::Tensor chunk = hidden.narrow(0, begin, rows);
    const at::Tensor label = labels.narrow(0, begin, rows).unsqueeze(1);
    at::Tensor logits = at::mm(chunk, weight.t()).to(at::kFloat);
    const at::Tensor lse = at::logsumexp(logits, {1}, /*keepdim=*/true);
    result.loss.add_(chunk_loss(logits, lse, label, options));
    if (!needs_hidden && !needs_weight) continue;
    logits_gradient_(logits, lse, label, options);
    const at::Tensor logits_grad = logits.to(hidden.scalar_type());
    if (needs_hidden) result.hidden_grad.narrow(0, begin, rows).copy_(at::mm(logits_grad, weight));
    if (needs_weight) {
      accumulate_weight_grad(result.weight_grad, logits_grad.narrow(1, first_row, trained), chunk);
    }
  }
  return result;
}

// The weight in the compute type, with the trained rows in the place of its last ones.
at::Tensor assembled_weight(const at::Tensor& weight, const std::optional<at::Tensor>& trained_rows,
                            at::ScalarType type) {
  if (!trained_rows) return weight.to(type);
  const int64_t first = weight.size(0) - trained_rows->size(0);
  return at::cat({weight.narrow(0, 0, first).to(type), trained_rows->to(type)});
}

class LinearCrossEntropyFunction : public torch::autograd::Function<LinearCrossEntropyFunction> {
 public:
  // The gradient of `trained` goes to trained_rows where those are defined, else to weight.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const std::optional<at::Tensor>& trained_rows,
                            const at::Tensor& labels, const LossOptions& options, bool needs_hidden,
                            bool needs_weight) {
    const at::Tensor rows = labels.ge(0).nonzero().squeeze(1);
    const at::ScalarType type = product_type(hidden);
    const at::Tensor& trained = trained_rows ? *trained_rows : weight;
    HeadLoss head =
        head_loss(hidden.index_select(0, rows).to(type),
                  assembled_weight(weight, trained_rows, type), labels.index_select(0, rows),
                  options, needs_hidden, needs_weight ? weight.size(0) - trained.size(0) : kNoRow);
    if (needs_hidden) {
      ctx->saved_data["hidden_grad"] = head.hidden_grad.to(hidden.scalar_type());
      ctx->saved_data["rows"] = rows;
      ctx->saved_data["total_rows"] = hidden.size(0);
    }
    if (needs_weight) {
      ctx->saved_data["weight_grad"] = head.weight_grad;
      ctx->saved_data["weight_type"] = static_cast<int64_t>(trained.scalar_type());
      ctx->saved_data["only_rows"] = trained_rows.has_value();
    }
    return head.loss;
  }

  // Scales the stored gradients in place (the weight's is as large as the head itself), hence once.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    TORCH_CHECK(!ctx->saved_data.empty(), "linear_cross_entropy: backward ran already");
    auto& saved = ctx->saved_data;
    at::Tensor hidden_grad, weight_grad, rows_grad;
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
      if (saved["only_rows"].toBool()) std::swap(weight_grad, rows_grad);
    }
    saved.clear();
    return {hidden_grad,  weight_grad,  rows_grad,   at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels, const LossOptions& options,
                                const at::Tensor& trained_rows) {
  TORCH_CHECK(options.chunk_rows > 0, "linear_cross_entropy: chunk_rows must be positive");
  TORCH_CHECK(!trained_rows.defined() || !weight.requires_grad(),
              "linear_cross_entropy: trained rows are for a frozen weight");
  const bool grad = at::GradMode::is_enabled();
  const at::Tensor& trained = trained_rows.defined() ? trained_rows : weight;
  // An undefined tensor is no input that libtorch's Function takes.
  std::optional<at::Tensor> rows;
  if (trained_rows.defined()) rows = trained_rows;
  return LinearCrossEntropyFunction::apply(hidden, weight, rows, labels, options,
                                           grad && hidden.requires_grad(),
                                           grad && trained.requires_grad());
}

}  // namespace llama2zh
