#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "llama2zh/model/llama_config.h"
#include "llama2zh/train/checkpoint.h"
#include "llama2zh/train/evaluate.h"
#include "llama2zh/train/run_config.h"
#include "llama2zh/train/train_log.h"

namespace llama2zh {

// The log of a run as Hugging Face's Trainer keeps it, for trainer_state.json: one entry a logged
// step and one a validation set and evaluation. Numbers that are not finite are left out (JSON has
// none, and plotting tools want numbers).
class RunHistory {
 public:
  void add(const LogRecord& record);
  // Of one set the key is eval_loss; of several eval_NAME_loss each, and eval_loss for their mean.
  void add(const std::vector<EvalResult>& results, int64_t step, double epoch);
  // Takes over what a checkpoint's trainer_state.json has; nothing if it has none.
  void read(const std::filesystem::path& checkpoint);

  // The whole file: TrainerState's keys and no others, since its load_from_json() refuses them.
  std::string trainer_state(const std::filesystem::path& output_dir, const TrainingState& state,
                            const TrainerConfig& config, const LlamaConfig& model,
                            int64_t total_steps, double epoch) const;

 private:
  std::vector<std::string> entries_;  // as JSON
};

// Mean over the sets, each with the same weight: what "eval_loss" means when there are several.
double mean_eval_loss(const std::vector<EvalResult>& results);

}  // namespace llama2zh
