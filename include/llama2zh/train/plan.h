#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/train/memory_plan.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// How micro-batches become optimizer steps, as Hugging Face's Trainer counts: a step never crosses
// an epoch's end (the last one of an epoch may have fewer micro-batches).
class StepCount {
 public:
  // `ranks` processes take gradient_accumulation_steps micro-batches each.
  StepCount(const BatchLoader& loader, const TrainerConfig& config, int64_t ranks = 1);
  int64_t total() const { return total_; }
  int64_t steps_in_epoch(int64_t epoch) const;

 private:
  const BatchLoader* loader_;
  int64_t accumulation_;
  int64_t total_ = 0;
};

// A source of a mixture.
struct SourcePlan {
  std::string name;
  int64_t tokens = 0;           // that it holds
  int64_t blocks_in_epoch = 0;  // that an epoch takes of it
  double share = 0;             // of the epoch's blocks
  double passes = 0;            // over the source in an epoch
};

struct TrainingPlan {
  int64_t parameters = 0, trainable = 0;
  int64_t rows = 0, tokens = 0, characters = 0;
  int64_t bad_rows = 0, dropped_rows = 0, overlong_rows = 0;
  int64_t block_size = 0, micro_batch_size = 0, accumulation = 0;
  int64_t ranks = 1;
  int64_t steps = 0, steps_in_epoch = 0, warmup_steps = 0;
  std::vector<SourcePlan> sources;  // of a mixture
  std::string dtype, device;
  MemoryEstimate memory;
  int64_t save_steps = 0;
  bool save_in_background = false;
  int64_t tokens_per_step() const { return block_size * micro_batch_size * accumulation * ranks; }
};

// Several lines, for people.
std::string describe(const TrainingPlan& plan);

}  // namespace llama2zh
