#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/train/batch_loss.h"
#include "llama2zh/train/preference_config.h"

namespace llama2zh {

bool needs_reference(const PreferenceConfig& config);
// Whether the loss takes the mean over an answer's tokens instead of the sum.
bool is_per_token(const PreferenceConfig& config);

// Log-probabilities of n answers [n] fp32 each, summed or averaged as is_per_token() says.
struct PairLogProbs {
  at::Tensor chosen, rejected;
};
struct PairLosses {
  at::Tensor losses;  // [n], differentiable in the policy's log-probabilities
  at::Tensor chosen_rewards, rejected_rewards;  // [n], without gradient
};
// TRL's losses of the same names; `reference` is not looked at by those that need none. kto_pair
// takes its KL terms over these n pairs.
PairLosses preference_losses(const PreferenceConfig& config, const PairLogProbs& policy,
                             const PairLogProbs& reference);

// Sums of the answers' log-probabilities and their number of tokens, of every sequence of a batch.
struct SequenceLogProbs {
  at::Tensor sums, tokens;  // [sequences] fp32
};
SequenceLogProbs sequence_log_probs(const Llama& model, const PackedBatch& batch,
                                    PackedSequences& sequences, const ForwardOptions& options,
                                    int64_t head_chunk_rows);

// Pairs (data/preference_rows.h) -> loss. Counts are pairs. Metrics, means over the pairs since they
// were last taken, under TRL's names: rewards/chosen, rewards/rejected, rewards/accuracies,
// rewards/margins, logps/chosen, logps/rejected (sums or means as is_per_token() says), and for orpo
// nll_loss.
class PreferenceLoss : public BatchLoss {
 public:
  PreferenceLoss(const PreferenceConfig& config, int64_t head_chunk_rows);
  // Summed log-probabilities of each row's answers [rows], on the CPU; needed before sum() by losses
  // that have a reference.
  void set_reference(PairLogProbs reference) { reference_ = std::move(reference); }

  void prepare(PackedBatch& batch) const override;
  int64_t count(const PackedBatch& batch) const override;
  at::Tensor sum(const Llama& model, const PackedBatch& batch, PackedSequences& sequences,
                 const ForwardOptions& options) override;
  LossMetrics take_metrics(ProcessGroup* group = nullptr) override;

 private:
  PairLogProbs reference_of(const PackedBatch& batch, const PairLogProbs& tokens) const;
  void record(const PairLosses& pairs, const PairLogProbs& policy);
  PreferenceConfig config_;
  PairLogProbs reference_;
  int64_t head_chunk_rows_;
  at::Tensor totals_;  // sums of the metrics, on the model's device
  int64_t pairs_ = 0;
};

}  // namespace llama2zh
