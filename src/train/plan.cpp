// The plan that is printed before a run; train/memory_plan has the arithmetic of memory.
#include "llama2zh/train/plan.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

std::string percent(int64_t part, int64_t whole) {
  std::ostringstream out;
  out.precision(3);
  out << 100.0 * static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole));
  return out.str() + " %";
}

}  // namespace

StepCount::StepCount(const BatchLoader& loader, const TrainerConfig& config, int64_t ranks)
    : loader_(&loader), accumulation_(config.gradient_accumulation_steps * ranks) {
  if (config.max_steps > 0) {
    total_ = config.max_steps;
    return;
  }
  const double whole = std::floor(config.num_train_epochs);
  for (int64_t epoch = 0; epoch < static_cast<int64_t>(whole); ++epoch) {
    total_ += steps_in_epoch(epoch);
  }
  const double rest = config.num_train_epochs - whole;
  if (rest > 0) {
    const auto steps = static_cast<double>(steps_in_epoch(static_cast<int64_t>(whole)));
    total_ += static_cast<int64_t>(std::ceil(rest * steps));
  }
}

int64_t StepCount::steps_in_epoch(int64_t epoch) const {
  return (loader_->batches(epoch) + accumulation_ - 1) / accumulation_;
}

std::string describe(const TrainingPlan& plan) {
  std::ostringstream out;
  out << "Plan\n"
      << "  parameters   " << with_thousands(plan.parameters) << ", trained "
      << with_thousands(plan.trainable) << " (" << percent(plan.trainable, plan.parameters) << ")\n"
      << "  arithmetic   " << plan.dtype << " on " << plan.device << "\n"
      << "  data         " << with_thousands(plan.rows) << " rows, " << with_thousands(plan.tokens)
      << " tokens";
  if (plan.characters > 0) out << ", " << with_thousands(plan.characters) << " characters";
  if (plan.overlong_rows > 0) out << "; longer than a block: " << plan.overlong_rows;
  if (plan.dropped_rows > 0) out << "; dropped: " << plan.dropped_rows;
  if (plan.bad_rows > 0) out << "; bad and skipped: " << plan.bad_rows;
  for (const SourcePlan& source : plan.sources) {
    out << "\n    " << source.name << ": " << with_thousands(source.tokens) << " tokens, "
        << percent(static_cast<int64_t>(std::llround(source.share * 1e6)), 1000000)
        << " of an epoch (" << with_thousands(source.blocks_in_epoch) << " blocks, "
        << source.passes << " passes)";
  }
  out << "\n  a step       " << plan.micro_batch_size << " x " << plan.accumulation << " blocks of "
      << plan.block_size << (plan.ranks > 1 ? cat(" on each of ", plan.ranks, " ranks") : "")
      << " = up to " << with_thousands(plan.tokens_per_step()) << " tokens\n"
      << "  steps        " << with_thousands(plan.steps) << " (" << plan.steps_in_epoch
      << " an epoch, " << plan.warmup_steps << " warmup)\n"
      << "  memory       about " << human_bytes(plan.memory.total()) << ": frozen "
      << human_bytes(plan.memory.frozen) << (plan.memory.mapped ? " (mapped)" : "") << ", trained "
      << human_bytes(plan.memory.trained) << ", working " << human_bytes(plan.memory.working)
      << (plan.memory.offloaded > 0
              ? cat("; and ", human_bytes(plan.memory.offloaded), " of host memory")
              : "")
      << "\n"
      << "  checkpoints  " << human_bytes(plan.memory.checkpoint) << " each"
      << (plan.save_steps > 0 && plan.save_in_background
              ? "; as much again in host memory while one is written in the background"
              : "")
      << "\n"
      << "  time         known after the first steps";
  return out.str();
}

}  // namespace llama2zh
