#pragma once

#include <cstdint>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/train/run_config.h"
#include "llama2zh/train/sharded_adamw.h"

namespace llama2zh {

// What one optimizer step took.
struct StepTiming {
  double loss = 0;
  double backward_seconds = 0;  // forward and backward of its micro-batches
  double update_seconds = 0;    // gradient norm, clipping, optimizer
  int64_t tokens = 0, supervised = 0, rows = 0;
  double flops = 0;  // that the mathematics needs: train/cost.h
};

struct BenchMeasurement {
  std::vector<StepTiming> steps;  // without the warmup
  double product_peak = 0;        // FLOP/s of one large matrix product, in the same run
  uint64_t peak_memory = 0;       // bytes: of the process on a CPU, of tensors on a GPU

  double best_backward_seconds() const;
  double best_update_seconds() const;
  StepTiming sum() const;
};

// Takes optimizer steps exactly as a run does (StepRunner over the loader's micro-batches from the
// start of epoch 0, then the next epoch) and times them. `model` has what trains marked. The first
// `warmup` steps are not counted: they allocate. `sharding` is that of one rank, whose moments may be
// offloaded. kData if the loader has no micro-batch.
BenchMeasurement measure_steps(Llama& model, const TrainerConfig& config, const Sharding& sharding,
                               const BatchLoader& loader, int64_t warmup, int64_t steps);

}  // namespace llama2zh
