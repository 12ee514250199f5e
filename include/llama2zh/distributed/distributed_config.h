#pragma once

#include <cstdint>
#include <tuple>

#include "llama2zh/config/option.h"

namespace llama2zh {

// How the ranks of a run work together; the "distributed" section. timeout_seconds is without effect
// on one rank.
struct DistributedConfig {
  double timeout_seconds = 1800;
  int64_t zero_stage = 0;
  bool offload_optimizer = false;
  static auto options() {
    return std::tuple(
        option("timeout_seconds", &DistributedConfig::timeout_seconds,
               "How long a rank waits for the others, to start and in each exchange, before it "
               "ends with an error that says for whom and what for.",
               between(1, 1e6)),
        option(
            "zero_stage", &DistributedConfig::zero_stage,
            "What each of N ranks holds of what trains, beside the weights. 0: everything. 1: an "
            "N-th of the optimizer's moments (ZeRO-1). 2: an N-th of moments and gradients "
            "(ZeRO-2), exchanged for every micro-batch.",
            between(0, 2)),
        option(
            "offload_optimizer", &DistributedConfig::offload_optimizer,
            "Hold the moments in host memory and update there. Needs zero_stage 1 or 2; one rank "
            "will do."));
  }
};

}  // namespace llama2zh
