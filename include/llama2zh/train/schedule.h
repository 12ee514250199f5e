#pragma once

#include <cstdint>
#include <string>

#include "llama2zh/train/run_config.h"

namespace llama2zh {

// The learning rate as a function of the step and of nothing else, so that resuming needs no
// state. Hugging Face's get_{cosine,linear,constant}_schedule_with_warmup and
// get_wsd_schedule (type warmup_stable_decay).
class LearningRate {
 public:
  LearningRate(const TrainerConfig& config, int64_t total_steps);
  // Rate of the optimizer step that comes after `step` others; in a warmup the first is 0.
  double at(int64_t step) const;
  int64_t warmup_steps() const { return warmup_; }

 private:
  double decay(int64_t step) const;
  double stable_and_decay(int64_t step) const;
  double peak_;
  double min_ratio_;
  std::string type_, warmup_type_, decay_type_;
  int64_t warmup_;
  int64_t decay_steps_;  // of warmup_stable_decay
  int64_t total_;
};

}  // namespace llama2zh
