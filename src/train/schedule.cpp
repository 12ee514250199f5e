// With s steps done of T, w of them warmup (transformers/optimization.py):
//   s < w     s / max(1, w)
//   cosine    max(0, (1 + cos(pi (s - w) / max(1, T - w))) / 2)
//   linear    max(0, (T - s) / max(1, T - w))
//   constant  1
// and f (1 - m) + m when the rate ends at the share m.
#include "llama2zh/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llama2zh {

LearningRate::LearningRate(const TrainerConfig& config, int64_t total_steps)
    : peak_(config.learning_rate),
      min_ratio_(config.min_lr_ratio),
      type_(config.lr_scheduler_type),
      warmup_(config.warmup_steps > 0
                  ? config.warmup_steps
                  : static_cast<int64_t>(
                        std::ceil(static_cast<double>(total_steps) * config.warmup_ratio))),
      total_(total_steps) {}

double LearningRate::decay(int64_t step) const {
  const double span = static_cast<double>(std::max<int64_t>(1, total_ - warmup_));
  if (type_ == "cosine") {
    const double progress = static_cast<double>(step - warmup_) / span;
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
  }
  if (type_ == "linear") return std::max(0.0, static_cast<double>(total_ - step) / span);
  return 1.0;
}

double LearningRate::at(int64_t step) const {
  if (step < warmup_) {
    return peak_ * static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup_));
  }
  return peak_ * (decay(step) * (1.0 - min_ratio_) + min_ratio_);
}

}  // namespace llama2zh
