#pragma once

#include <memory>
#include <string>
#include <vector>

#include "llama2zh/train/preference_loss.h"
#include "llama2zh/train/run_config.h"
#include "llama2zh/train/trainer.h"
#include "train/run_inputs.h"

namespace llama2zh {

// Whether the rows are pairs of answers, and the loss one of preferences.
inline bool is_preference(const RunConfig& config) { return config.data.format == "preference"; }
// Options that don't go together; kUsage.
void check_preference(const RunConfig& config);

// The losses of a run of `llama2zh dpo`: of its training rows, and of each validation set.
class PreferenceRun {
 public:
  // Gives each validation set its loss.
  PreferenceRun(const RunConfig& config, std::vector<ValidationSet>& validation);
  BatchLoss& loss() { return *train_; }

  // Computes what the losses compare with, or reads it from the output folder, which exists. `model`
  // is as training starts. Ranks (`group`; null: there is one) share the work, and rank 0 writes.
  // False, on all ranks, if a stop was asked for meanwhile; what was computed is kept.
  bool take_reference(const RunConfig& config, const RunInputs& inputs, const Llama& model,
                      LoaderOptions options, const std::string& base_identity, ProcessGroup* group);

 private:
  std::shared_ptr<PreferenceLoss> train_;
  std::vector<std::shared_ptr<PreferenceLoss>> validation_;
};

}  // namespace llama2zh
