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

#include "kernels/softmax_loss.h"
#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

struct HeadLoss {
  at::Tensor loss;         // fp32 scalar
  at::Tensor hidden_grad;  // [N, H] of the supervised rows in hidden's type, or undefined
  at::Tensor weight_grad;  // [V - first_row, H] fp32 or the compute type, or undefined
};

constexpr int64_t kNoRow = -1;

// One chunk's product needs no sum in fp32.
void add_weight_grad(at::Tensor& total, const at::Tensor& logits_grad, const at::Tensor& hidden) {
  if (!total.defined()) {
    total = at::mm(logits_grad.t(), hidden);
  } else if (hidden.scalar_type() == at::kFloat) {
    total.addmm_(logits_grad.t(), hidden);
  } else {
    total = total.to(at::kFloat).add_(at::mm(logits_grad.t(), hidden));
  }
}

// Sum of the losses of logits [n, V], label [n, 1], which become their gradient if one is wanted:
// by libtorch's operators, for devices and types that softmax_loss.h does not know.
at::Tensor plain_loss_(at::Tensor& logits, const at::Tensor& label, const LossOptions& options,
                       bool gradient) {
  const double e = options.label_smoothing;
  at::Tensor z = logits.to(at::kFloat);
  const at::Tensor lse = at::logsumexp(z, {1}, /*keepdim=*/true);
  at::Tensor loss = lse - z.gather(1, label) * (1 - e);
  if (e > 0) loss.sub_(z.mean(1, /*keepdim=*/true), e);
  if (options.z_loss > 0) loss.add_(lse.square(), options.z_loss);
  if (!gradient) return loss.sum();
  z.sub_(lse).exp_();
  if (options.z_loss > 0) z.mul_(lse * (2 * options.z_loss) + 1);
  if (e > 0) z.sub_(e / static_cast<double>(z.size(1)));
  z.scatter_add_(1, label, at::full(label.sizes(), e - 1, z.options()));
  logits = z.to(logits.scalar_type());
  return loss.sum();
}

at::Tensor chunk_loss_(at::Tensor& logits, const at::Tensor& labels, const LossOptions& options,
                       bool gradient) {
  if (!has_softmax_loss_kernel(logits)) {
    return plain_loss_(logits, labels.unsqueeze(1), options, gradient);
  }
  at::Tensor labelled = logits.narrow(0, 0, labels.size(0));
  const double loss =
      softmax_loss_(labelled, labels, {options.label_smoothing, options.z_loss}, gradient);
  if (gradient) logits.narrow(0, labels.size(0), logits.size(0) - labels.size(0)).zero_();
  return at::full({}, loss, logits.options().dtype(at::kFloat));
}

// hidden [P, H] and weight [V, H] in the compute type, labels [N] of the first N rows (the others
// fill up); the weight's gradient is formed for rows from first_row on, or not at all (kNoRow).
HeadLoss head_loss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                   const LossOptions& options, bool needs_hidden, int64_t first_row) {
  const bool needs_weight = first_row != kNoRow;
  const int64_t trained = weight.size(0) - first_row, labelled = labels.size(0);
  HeadLoss result;
  result.loss = at::zeros({}, hidden.options().dtype(at::kFloat));
  if (needs_hidden) result.hidden_grad = at::zeros({labelled, hidden.size(1)}, hidden.options());
  for (int64_t begin = 0; begin < labelled; begin += options.chunk_rows) {
    const at::Tensor chunk =
        hidden.narrow(0, begin, std::min(options.chunk_rows, hidden.size(0) - begin));
    const int64_t rows = std::min(chunk.size(0), labelled - begin);
    at::Tensor logits = at::mm(chunk, weight.t());
    result.loss.add_(chunk_loss_(logits, labels.narrow(0, begin, rows), options,
                                 /*gradient=*/needs_hidden || needs_weight));
    if (needs_hidden) {
      result.hidden_grad.narrow(0, begin, rows).copy_(at::mm(logits, weight).narrow(0, 0, rows));
    }
    if (needs_weight) {
      add_weight_grad(result.weight_grad, logits.narrow(1, first_row, trained), chunk);
    }
  }
  if (needs_weight && !result.weight_grad.defined()) {
    result.weight_grad = at::zeros({trained, weight.size(1)}, hidden.options());
  }
  return result;
}

// The supervised rows of hidden in `type`; on a CPU filled up with copies of the first to a whole
// number of vectors, which matrix products are faster on.
at::Tensor rows_for_product(const at::Tensor& hidden, const at::Tensor& rows, at::ScalarType type) {
  constexpr int64_t kAligned = 16;
  const int64_t missing = (kAligned - rows.numel() % kAligned) % kAligned;
  const bool fill = hidden.is_cpu() && type == at::kBFloat16 && rows.numel() > 0 && missing > 0;
  const at::Tensor wanted = fill ? at::cat({rows, rows.narrow(0, 0, 1).expand({missing})}) : rows;
  return hidden.index_select(0, wanted).to(type);
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
    // A narrower head would be copied whole: not worth the memory.
    const at::ScalarType type =
        weight.scalar_type() == at::kFloat ? large_product_type(hidden) : product_type(hidden);
    const at::Tensor& trained = trained_rows ? *trained_rows : weight;
    HeadLoss head =
        head_loss(rows_for_product(hidden, rows, type),
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
      weight_grad = saved["weight_grad"].toTensor().to(at::kFloat).mul_(grads[0]);
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
