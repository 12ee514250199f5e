// With s steps done of T, w of them warmup (transformers/optimization.py):
//   s < w     s / max(1, w)
//   cosine    max(0, (1 + cos(pi (s - w) / max(1, T - w))) / 2)
//   linear    max(0, (T - s) / max(1, T - w))
//   constant  1
// and f (1 - m) + m when the rate ends at the share m.
//   warmup_stable_decay, d steps of decay (Hu et al. 2024, MiniCPM): shape(s / w) from m up to 1, then 1,
//   in the last d steps shape((s - T + d) / d) from 1 down to m; here the warmup starts at m, too.
#include "llama2zh/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llama2zh {
namespace {

int64_t steps_or_share(int64_t steps, double share, int64_t total) {
  if (steps > 0) return steps;
  return static_cast<int64_t>(std::ceil(static_cast<double>(total) * share));
}

// From 0 at progress 0 to 1 at progress 1.
double rise(const std::string& type, double progress) {
  if (type == "cosine") return 0.5 * (1.0 - std::cos(std::numbers::pi * progress));
  return type == "1-sqrt" ? 1.0 - std::sqrt(1.0 - progress) : progress;
}

// From 1 at progress 0 to 0 at progress 1.
double fall(const std::string& type, double progress) {
  if (type == "cosine") return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return type == "1-sqrt" ? 1.0 - std::sqrt(progress) : 1.0 - progress;
}

double share_of(int64_t part, int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole));
}

}  // namespace

LearningRate::LearningRate(const TrainerConfig& config, int64_t total_steps)
    : peak_(config.learning_rate),
      min_ratio_(config.min_lr_ratio),
      type_(config.lr_scheduler_type),
      warmup_type_(config.warmup_type),
      decay_type_(config.decay_type),
      warmup_(steps_or_share(config.warmup_steps, config.warmup_ratio, total_steps)),
      decay_steps_(steps_or_share(config.num_decay_steps, config.decay_ratio, total_steps)),
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

double LearningRate::stable_and_decay(int64_t step) const {
  if (step < warmup_) return rise(warmup_type_, share_of(step, warmup_));
  const int64_t decay_begin = std::max(warmup_, total_ - decay_steps_);
  if (step < decay_begin) return 1.0;
  if (step >= decay_begin + decay_steps_) return 0.0;
  return fall(decay_type_, share_of(step - decay_begin, decay_steps_));
}

double LearningRate::at(int64_t step) const {
  if (type_ == "warmup_stable_decay") {
    return peak_ * (stable_and_decay(step) * (1.0 - min_ratio_) + min_ratio_);
  }
  if (step < warmup_) return peak_ * share_of(step, warmup_);
  return peak_ * (decay(step) * (1.0 - min_ratio_) + min_ratio_);
}

}  // namespace llama2zh
