#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/train/evaluate.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// What evaluations have said so far; a part of the training state.
struct BestModel {
  std::optional<double> loss;  // the lowest, measured at `step`
  int64_t step = 0;
  // The same over the checkpoints that are on disk; 0: none was evaluated.
  std::optional<double> checkpoint_loss;
  int64_t checkpoint = 0;
  // Evaluations in a row that were not better by more than early_stopping_threshold.
  int64_t without_improvement = 0;
};

// Which model counts as the best, and when waiting for a better one ends: Hugging Face's
// metric_for_best_model (lower is better) and EarlyStoppingCallback.
class BestModelRule {
 public:
  // `sets`: names of the validation sets. kUsage if the options need an evaluation that the run
  // does not have, or name a set that it has not.
  BestModelRule(const TrainerConfig& config, const std::vector<std::string>& sets);

  // The number that decides: the loss of the chosen set, or the mean over all sets.
  double metric(const std::vector<EvalResult>& results) const;
  // Takes an evaluation into account; true if it is the best so far. A loss that is not finite is
  // never.
  bool update(BestModel& best, double loss, int64_t step) const;
  bool gives_up(const BestModel& best) const;

 private:
  std::string set_;  // empty: the mean
  int64_t patience_;
  double threshold_;
};

}  // namespace llama2zh
