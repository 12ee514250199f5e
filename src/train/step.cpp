// Accumulation. With n_i supervised tokens in micro-batch i, N in the whole step and M micro-batches
// that have any, the step's loss is
//   token              sum_i (loss sum of i) / N          (Hugging Face since 2024-10)
//   micro_batch_mean   sum_i (loss sum of i) / (n_i M)    (before, and the original recipe)
// and each micro-batch is weighted before its own backward(), so that gradients just add up.
// With a BatchLoss, n_i and N count what it says (pairs) instead of supervised tokens.
// Clipping is torch.nn.utils.clip_grad_norm_: g * min(1, max / (norm + 1e-6)).
#include "llama2zh/train/step.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr double kFirstLossScale = 65536;
constexpr int64_t kLossScaleGrowth = 2000;

class StepClock {
 public:
  // Seconds since the last call, or the construction.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(start_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// `sequences` has to live until backward() is done: activation checkpointing attends again.
at::Tensor batch_loss(const Llama& model, const PackedBatch& batch, PackedSequences& sequences,
                      const ForwardOptions& options, const LossOptions& loss) {
  RECORD_USER_SCOPE("forward");
  const at::Tensor hidden = model.forward(batch.ids.to(model.device()), sequences, options);
  return model.loss(hidden, batch.labels.to(model.device()), loss);
}

AdamWOptions adamw_options(const TrainerConfig& config) {
  AdamWOptions options{config.adam_beta1, config.adam_beta2, config.adam_epsilon,
                       config.weight_decay};
  options.loraplus_lr_ratio = config.loraplus_lr_ratio;
  if (config.embedding_learning_rate) {
    if (config.learning_rate <= 0) {
      fail_usage("train.embedding_learning_rate", "it is a share of learning_rate, which is 0",
                 "set a learning rate above 0, and train.freeze for what is not to learn");
    }
    options.embedding_lr_factor = *config.embedding_learning_rate / config.learning_rate;
  }
  options.eight_bit = config.optim == "adamw_8bit";
  return options;
}

}  // namespace

PackedBatch aligned(const PackedBatch& batch, at::Device device) {
  constexpr int64_t kRows = 16;
  const int64_t missing = (kRows - batch.ids.size(0) % kRows) % kRows;
  if (!device.is_cpu() || missing == 0) return batch;
  PackedBatch result = batch;
  result.ids = at::cat({batch.ids, at::zeros({missing}, batch.ids.options())});
  result.labels = at::cat({batch.labels, at::full({missing}, -100, batch.labels.options())});
  result.boundaries.push_back(result.ids.size(0));
  return result;
}

void LossScale::update(bool overflow) {
  if (!dynamic) return;
  if (overflow) {
    scale /= 2;
    good_steps = 0;
  } else if (++good_steps == kLossScaleGrowth) {
    scale *= 2;
    good_steps = 0;
  }
}

double summed_loss(const Llama& model, const PackedBatch& given, int64_t head_chunk_rows) {
  const at::NoGradGuard no_grad;
  if (given.supervised == 0) return 0;
  const PackedBatch batch = aligned(given, model.device());
  PackedSequences sequences(batch.boundaries, model.device());
  return batch_loss(model, batch, sequences, {}, {.chunk_rows = head_chunk_rows}).item<double>();
}

StepRunner::StepRunner(Llama& model, const TrainerConfig& config, int64_t total_steps,
                       ProcessGroup* group, BatchLoss* loss, const Sharding& sharding)
    : model_(&model),
      config_(config),
      learning_rate_(config, total_steps),
      optimizer_(trained_parameters(model), adamw_options(config), sharding, group),
      group_(group),
      loss_(loss) {
  scale_.dynamic = model.compute_dtype() == at::kHalf;
  if (scale_.dynamic) scale_.scale = kFirstLossScale;
  if (group != nullptr) {
    gradients_ = std::make_unique<RankGradients>(*group, model, optimizer_);
  }
}

int64_t StepRunner::terms(const PackedBatch& batch) const {
  return loss_ != nullptr ? loss_->count(batch) : batch.supervised;
}

at::Tensor StepRunner::forward(const PackedBatch& batch, PackedSequences& sequences,
                               const ForwardOptions& options) {
  if (loss_ != nullptr) return loss_->sum(*model_, batch, sequences, options);
  return batch_loss(*model_, batch, sequences, options,
                    {config_.head_chunk_rows, config_.label_smoothing_factor, config_.z_loss});
}

StepRunner::StepCounts StepRunner::count(const std::vector<PackedBatch>& batches,
                                         const std::string& what) const {
  StepCounts counts;
  for (const PackedBatch& batch : batches) {
    counts.tokens += batch.ids.size(0);
    counts.supervised += batch.supervised;
    counts.terms += terms(batch);
    counts.with_terms += terms(batch) > 0 ? 1 : 0;
  }
  if (group_ == nullptr) return counts;
  const at::Tensor own =
      at::tensor({counts.tokens, counts.supervised, counts.terms, counts.with_terms}, at::kLong);
  const at::Tensor all = group_->all_gather(own, "the token counts of " + what);
  const at::Tensor sums = all.sum(0);
  const int64_t* sum = sums.const_data_ptr<int64_t>();
  return {sum[0], sum[1], sum[2], sum[3], all.select(1, 3).max().item<int64_t>()};
}

// The losses are added up on the device: one synchronisation a step. Ranks exchange gradients during
// the last backward pass of theirs; a rank without one takes part all the same.
double StepRunner::backward(const std::vector<PackedBatch>& batches, const StepCounts& counts,
                            const std::string& what) {
  ForwardOptions options;
  options.training = true;
  options.activation_checkpointing = config_.gradient_checkpointing;
  options.neftune_noise_alpha = config_.neftune_noise_alpha;
  at::Tensor total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(model_->device()));
  auto left = std::count_if(batches.begin(), batches.end(),
                            [this](const PackedBatch& b) { return terms(b) > 0; });
  if (gradients_) gradients_->make_up(left, counts.most_with_terms);
  for (const PackedBatch& given : batches) {
    if (terms(given) == 0) continue;
    --left;
    if (gradients_) gradients_->start(/*is_last=*/left == 0);
    const PackedBatch batch = aligned(given, model_->device());
    const double share = config_.loss_reduction == "token"
                             ? 1.0 / static_cast<double>(counts.terms)
                             : 1.0 / static_cast<double>(terms(batch) * counts.with_terms);
    PackedSequences sequences(batch.boundaries, model_->device());
    const at::Tensor loss = forward(batch, sequences, options);
    RECORD_USER_SCOPE("backward");
    (loss * (share * scale_.scale)).backward();
    total.add_(loss.detach().to(at::kDouble), share);
  }
  if (gradients_) gradients_->finish(batches, "the embeddings' gradients of " + what);
  const double own = total.item<double>();
  return group_ == nullptr ? own : group_->sum({own}, "the loss of " + what)[0];
}

StepResult StepRunner::run(int64_t step, const std::vector<PackedBatch>& batches) {
  StepResult result;
  result.learning_rate = learning_rate_.at(step);
  const std::string what = cat("step ", step + 1);
  const StepCounts counts = count(batches, what);
  result.tokens = counts.tokens;
  result.supervised = counts.supervised;
  if (counts.terms == 0) {
    result.skipped = true;
    return result;
  }
  StepClock clock;
  const auto compute = [&] { result.loss = backward(batches, counts, what); };
  if (group_ == nullptr) {
    compute();
  } else {
    group_->guarded("the gradients of " + what, compute);
  }
  result.backward_seconds = clock.lap();
  RECORD_USER_SCOPE("update");
  result.grad_norm = optimizer_.gradient_norm(what) / scale_.scale;
  const bool overflow = scale_.dynamic && !std::isfinite(result.grad_norm);
  result.finite = std::isfinite(result.loss) && (overflow || std::isfinite(result.grad_norm));
  // A scale below 1 means that it is not the scale that makes the gradients overflow.
  if (overflow && scale_.scale < 1) result.finite = false;
  result.skipped = overflow || !result.finite;
  if (!result.skipped) {
    double divisor = scale_.scale;
    if (config_.max_grad_norm > 0) {
      divisor /= std::min(1.0, config_.max_grad_norm / (result.grad_norm + 1e-6));
    }
    optimizer_.step(result.learning_rate, divisor, what);
  }
  if (result.finite) scale_.update(overflow);
  optimizer_.zero_grad();
  result.update_seconds = clock.lap();
  return result;
}

}  // namespace llama2zh
