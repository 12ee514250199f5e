// With pi and ref the log-probabilities of an answer under the policy and the reference, c and r the
// chosen and the rejected answer, d = (pi_c - pi_r) - (ref_c - ref_r), s = logsigmoid, e the label
// smoothing:
//   sigmoid   -(1 - e) s(beta d) - e s(-beta d)          Rafailov et al. 2023; e: Mitchell's cDPO
//   ipo       (d - 1 / (2 beta))^2, log-probabilities per token        Azar et al. 2023
//   hinge     max(0, 1 - beta d)                                       Zhao et al. 2023 (SLiC)
//   kto_pair  mean of 1 - sigmoid(beta ((pi_c - ref_c) - KL_r)) and
//             1 - sigmoid(beta (KL_c - (pi_r - ref_r))), KL_x = max(0, mean(pi_x - ref_x)) over the
//             micro-batch                                              Ethayarajh et al. 2024
//   orpo      -pi_c - beta s(log odds_c - log odds_r), odds = p / (1 - p), per token
//                                                                      Hong et al. 2024
//   simpo     -(1 - e) s(beta (pi_c - pi_r) - gamma) - e s(-(..)), per token     Meng et al. 2024
#include "llama2zh/train/preference_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/data/preference_rows.h"
#include "llama2zh/kernels/label_log_probs.h"

namespace llama2zh {
namespace {

at::Tensor smoothed_log_sigmoid(const at::Tensor& margin, double smoothing) {
  at::Tensor right = -at::log_sigmoid(margin);
  if (smoothing == 0) return right;
  return right * (1 - smoothing) - at::log_sigmoid(-margin) * smoothing;
}

// log(1 - exp(x)) for x < 0; the cut at -ln 2 as in Maechler 2012 and TRL's log1mexp.
at::Tensor log_one_minus_exp(const at::Tensor& x) {
  constexpr double kCut = -0.6931471805599453;
  // The branch that is not taken gets a harmless argument: its gradient would be 0 times infinity.
  const at::Tensor near = x > kCut;
  const at::Tensor small = at::log(-at::expm1(at::where(near, x, at::full_like(x, kCut))));
  const at::Tensor large = at::log1p(-at::exp(at::where(near, at::full_like(x, kCut), x)));
  return at::where(near, small, large);
}

at::Tensor kto_pair_losses(double beta, const at::Tensor& chosen, const at::Tensor& rejected) {
  const at::Tensor chosen_kl = chosen.mean().clamp_min(0);
  const at::Tensor rejected_kl = rejected.mean().clamp_min(0);
  return (2 - at::sigmoid((chosen - rejected_kl) * beta) -
          at::sigmoid((chosen_kl - rejected) * beta)) /
         2;
}

at::Tensor orpo_losses(double beta, const PairLogProbs& policy) {
  const at::Tensor log_odds =
      (policy.chosen - policy.rejected) -
      (log_one_minus_exp(policy.chosen) - log_one_minus_exp(policy.rejected));
  return -policy.chosen - at::log_sigmoid(log_odds) * beta;
}

// [T]: the number of the sequence that a token belongs to.
at::Tensor sequence_numbers(const std::vector<int64_t>& boundaries) {
  at::Tensor numbers = at::empty({boundaries.back()}, at::kLong);
  int64_t* out = numbers.data_ptr<int64_t>();
  for (size_t i = 1; i < boundaries.size(); ++i) {
    std::fill(out + boundaries[i - 1], out + boundaries[i], static_cast<int64_t>(i) - 1);
  }
  return numbers;
}

// Chosen answers stand at even places, rejected ones at odd places; what fills a batch up comes last.
PairLogProbs as_pairs(const at::Tensor& of_sequences, int64_t count) {
  const at::Tensor pairs = of_sequences.narrow(0, 0, 2 * count).view({count, 2});
  return {pairs.select(1, 0), pairs.select(1, 1)};
}

// The head in the activations' type; rows that train stand in for its last ones.
at::Tensor head_matrix(const Llama& model, at::ScalarType type) {
  at::Tensor weight = model.head_weight();
  if (!model.lm_head_rows.defined()) return weight;
  const at::Tensor frozen = weight.narrow(0, 0, weight.size(0) - model.lm_head_rows.size(0));
  return at::cat({frozen.to(type), model.lm_head_rows.to(type)});
}

const std::vector<std::string>& metric_names() {
  static const std::vector<std::string> kNames = {"rewards/chosen",     "rewards/rejected",
                                                  "rewards/accuracies", "rewards/margins",
                                                  "logps/chosen",       "logps/rejected"};
  return kNames;
}

}  // namespace

bool needs_reference(const PreferenceConfig& config) {
  return config.loss != "orpo" && config.loss != "simpo";
}

bool is_per_token(const PreferenceConfig& config) {
  return config.loss == "ipo" || !needs_reference(config);
}

PairLosses preference_losses(const PreferenceConfig& config, const PairLogProbs& policy,
                             const PairLogProbs& reference) {
  const double beta = config.beta;
  const bool against = needs_reference(config);
  const at::Tensor chosen = against ? policy.chosen - reference.chosen : policy.chosen;
  const at::Tensor rejected = against ? policy.rejected - reference.rejected : policy.rejected;
  const at::Tensor difference = chosen - rejected;
  PairLosses result;
  result.chosen_rewards = chosen.detach() * beta;
  result.rejected_rewards = rejected.detach() * beta;
  if (config.loss == "sigmoid") {
    result.losses = smoothed_log_sigmoid(difference * beta, config.label_smoothing);
  } else if (config.loss == "ipo") {
    result.losses = (difference - 1 / (2 * beta)).square();
  } else if (config.loss == "hinge") {
    result.losses = at::relu(1 - difference * beta);
  } else if (config.loss == "kto_pair") {
    result.losses = kto_pair_losses(beta, chosen, rejected);
  } else if (config.loss == "orpo") {
    result.losses = orpo_losses(beta, policy);
  } else if (config.loss == "simpo") {
    result.losses =
        smoothed_log_sigmoid(difference * beta - config.simpo_gamma, config.label_smoothing);
  } else {
    fail_usage("preference.loss", "no loss is called '" + config.loss + "'");
  }
  return result;
}

SequenceLogProbs sequence_log_probs(const Llama& model, const PackedBatch& batch,
                                    PackedSequences& sequences, const ForwardOptions& options,
                                    int64_t head_chunk_rows) {
  RECORD_USER_SCOPE("forward");
  const at::Device device = model.device();
  const at::Tensor labels = batch.labels.to(device);
  const at::Tensor hidden = model.forward(batch.ids.to(device), sequences, options);
  const at::Tensor tokens =
      label_log_probs(hidden, head_matrix(model, hidden.scalar_type()), labels, head_chunk_rows);
  const at::Tensor numbers = sequence_numbers(batch.boundaries).to(device);
  const at::Tensor none =
      at::zeros({static_cast<int64_t>(batch.boundaries.size()) - 1}, tokens.options());
  return {none.index_add(0, numbers, tokens),
          none.index_add(0, numbers, labels.ge(0).to(at::kFloat))};
}

PreferenceLoss::PreferenceLoss(const PreferenceConfig& config, int64_t head_chunk_rows)
    : config_(config), head_chunk_rows_(head_chunk_rows) {}

void PreferenceLoss::prepare(PackedBatch& batch) const { split_pairs(batch); }

int64_t PreferenceLoss::count(const PackedBatch& batch) const {
  return static_cast<int64_t>(batch.rows.size());
}

PairLogProbs PreferenceLoss::reference_of(const PackedBatch& batch,
                                          const PairLogProbs& tokens) const {
  if (!needs_reference(config_)) return {};
  const at::Tensor rows = at::tensor(at::ArrayRef<int64_t>(batch.rows), at::kLong);
  PairLogProbs found{reference_.chosen.index_select(0, rows).to(tokens.chosen.device()),
                     reference_.rejected.index_select(0, rows).to(tokens.chosen.device())};
  if (is_per_token(config_)) {
    found = {found.chosen / tokens.chosen, found.rejected / tokens.rejected};
  }
  return found;
}

// Added up on the device, so that no step waits for them.
void PreferenceLoss::record(const PairLosses& pairs, const PairLogProbs& policy) {
  const at::Tensor right = pairs.chosen_rewards.gt(pairs.rejected_rewards).to(at::kFloat);
  const at::Tensor sums =
      at::stack({pairs.chosen_rewards.sum(), pairs.rejected_rewards.sum(), right.sum(),
                 (pairs.chosen_rewards - pairs.rejected_rewards).sum(),
                 policy.chosen.detach().sum(), policy.rejected.detach().sum()})
          .to(at::kDouble);
  totals_ = totals_.defined() ? totals_ + sums : sums;
  pairs_ += right.size(0);
}

at::Tensor PreferenceLoss::sum(const Llama& model, const PackedBatch& batch,
                               PackedSequences& sequences, const ForwardOptions& options) {
  const SequenceLogProbs all =
      sequence_log_probs(model, batch, sequences, options, head_chunk_rows_);
  const PairLogProbs tokens = as_pairs(all.tokens, count(batch));
  const PairLogProbs policy =
      as_pairs(is_per_token(config_) ? all.sums / all.tokens : all.sums, count(batch));
  const PairLosses pairs = preference_losses(config_, policy, reference_of(batch, tokens));
  record(pairs, policy);
  return pairs.losses.sum();
}

LossMetrics PreferenceLoss::take_metrics(ProcessGroup* group) {
  std::vector<double> sums(metric_names().size(), 0.0);
  if (pairs_ > 0) {
    const at::Tensor totals = totals_.cpu();
    std::copy_n(totals.const_data_ptr<double>(), sums.size(), sums.begin());
  }
  sums.push_back(static_cast<double>(pairs_));
  if (group != nullptr) sums = group->sum(sums, "the metrics of pairs");
  LossMetrics metrics;
  if (sums.back() == 0) return metrics;
  for (size_t i = 0; i < metric_names().size(); ++i) {
    metrics.emplace_back(metric_names()[i], sums[i] / sums.back());
  }
  // orpo's likelihood term is the chosen answers' mean log-probability.
  if (config_.loss == "orpo") metrics.emplace_back("nll_loss", -metrics[4].second);
  totals_.reset();
  pairs_ = 0;
  return metrics;
}

}  // namespace llama2zh
