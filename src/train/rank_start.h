#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>

#include "llama2zh/distributed/process_group.h"
#include "llama2zh/distributed/rank_environment.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

inline constexpr const char* kWhetherToBegin = "whether to begin, or to stop before the first step";

// Of several GPUs of a host each rank takes the one with its local number.
void use_device_of_rank(RunConfig& config, const RankEnvironment& environment);

// A warning if the ranks of this host have more threads than it has cores.
void warn_of_shared_cores(const RankEnvironment& environment, at::Device device);

std::chrono::milliseconds rank_timeout(const RunConfig& config);

// Null for a run of one process.
std::unique_ptr<ProcessGroup> meet_other_ranks(const RunConfig& config,
                                               const RankEnvironment& environment,
                                               at::Device device);

// For a rank that a signal stopped before it met the others, who wait for it.
void tell_others_of_stop(const RunConfig& config, const RankEnvironment& environment,
                         at::Device device);

}  // namespace llama2zh
