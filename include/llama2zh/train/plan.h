#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/model/llama_config.h"
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

// Bytes that a run needs, estimated from shapes before anything is loaded.
struct MemoryEstimate {
  uint64_t frozen = 0;       // base weights in the arithmetic's type
  uint64_t trained = 0;      // fp32 masters, gradients, two moments, as far as a rank holds them
  uint64_t offloaded = 0;    // moments and what their update needs, in host memory; not in total()
  uint64_t activations = 0;  // one micro-batch, incl. the head's chunk of logits
  uint64_t checkpoint = 0;   // on disk, and in host memory while it is written in the background
  bool mapped = false;       // frozen weights are the file itself, shared between processes
  uint64_t total() const { return frozen + trained + activations; }
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

// Parameters that LoRA (or method full) trains in a model of this shape.
int64_t trainable_parameters(const LlamaConfig& model, const RunConfig& run);
// Of one rank of `ranks`.
MemoryEstimate estimate_memory(const LlamaConfig& model, const RunConfig& run, int64_t trainable,
                               int64_t bytes_per_number, bool mapped, int64_t ranks = 1);
// Several lines, for people.
std::string describe(const TrainingPlan& plan);

}  // namespace llama2zh
