#include "llama2zh/eval/compare_models.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>

#include <algorithm>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/eval/standard_error.h"

namespace llama2zh {
namespace {

constexpr int64_t kComparedRows = 128;  // whose logits exist at once

at::Tensor hidden_of(const Llama& model, const at::Tensor& ids) {
  PackedSequences context(ids.size(0), model.device());
  return model.forward(ids.to(model.device()), context);
}

// Rows of logits of both, and the tokens that followed.
void add_rows(ModelDistance& sum, const at::Tensor& reference, const at::Tensor& logits,
              const at::Tensor& targets) {
  const at::Tensor p = at::log_softmax(reference, 1), q = at::log_softmax(logits, 1);
  const auto nll = [&](const at::Tensor& log_probs) {
    return -log_probs.gather(1, targets.unsqueeze(1)).squeeze(1).to(at::kDouble);
  };
  const at::Tensor of_reference = nll(p), of_model = nll(q);
  sum.reference_nll += of_reference.sum().item<double>();
  sum.nll += of_model.sum().item<double>();
  sum.nll_difference_squares += (of_model - of_reference).square().sum().item<double>();
  const at::Tensor kl = (p.exp() * (p - q)).sum({1}, false, at::kDouble);
  sum.kl += kl.sum().item<double>();
  sum.kl_squares += kl.square().sum().item<double>();
  sum.max_logit_difference =
      std::max(sum.max_logit_difference, (reference - logits).abs().max().item<double>());
  sum.same_top += p.argmax(1).eq(q.argmax(1)).sum().item<int64_t>();
  sum.positions += targets.size(0);
}

}  // namespace

double ModelDistance::perplexity() const { return std::exp(nll / static_cast<double>(positions)); }
double ModelDistance::reference_perplexity() const {
  return std::exp(reference_nll / static_cast<double>(positions));
}
double ModelDistance::nll_difference() const {
  return (nll - reference_nll) / static_cast<double>(positions);
}
double ModelDistance::nll_difference_error() const {
  return error_of_mean(positions, nll - reference_nll, nll_difference_squares);
}
double ModelDistance::mean_kl() const { return kl / static_cast<double>(positions); }
double ModelDistance::kl_error() const { return error_of_mean(positions, kl, kl_squares); }
double ModelDistance::top1_agreement() const {
  return static_cast<double>(same_top) / static_cast<double>(positions);
}
double ModelDistance::top1_error() const {
  const auto same = static_cast<double>(same_top);
  return error_of_mean(positions, same, same);
}

ModelDistance compare_models(const Llama& reference, const Llama& model, TokenId bos,
                             std::span<const TokenId> ids, int64_t window,
                             const std::function<void(int64_t tokens)>& on_tokens) {
  if (reference.config.vocab_size != model.config.vocab_size) {
    fail_data("compare", cat("the vocabularies differ: ", reference.config.vocab_size, " and ",
                             model.config.vocab_size));
  }
  const at::NoGradGuard no_grad;
  ModelDistance sum;
  const auto size = static_cast<int64_t>(ids.size());
  for (int64_t begin = 0; begin < size; begin += window) {
    throw_if_stopped();
    const int64_t count = std::min(window, size - begin);
    at::Tensor stream = at::empty({count + 1}, at::kLong);
    stream.mutable_data_ptr<int64_t>()[0] = bos;
    std::copy_n(ids.begin() + begin, count, stream.mutable_data_ptr<int64_t>() + 1);
    const at::Tensor inputs = stream.narrow(0, 0, count), targets = stream.narrow(0, 1, count);
    const at::Tensor expected = hidden_of(reference, inputs), found = hidden_of(model, inputs);
    for (int64_t row = 0; row < count; row += kComparedRows) {
      const int64_t rows = std::min(kComparedRows, count - row);
      add_rows(sum, reference.logits(expected.narrow(0, row, rows)).cpu(),
               model.logits(found.narrow(0, row, rows)).cpu(), targets.narrow(0, row, rows));
    }
    if (on_tokens) on_tokens(count);
  }
  return sum;
}

}  // namespace llama2zh
