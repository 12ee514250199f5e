#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/distributed/process_group.h"

namespace llama2zh {

// The random state of the other ranks, for a checkpoint that rank 0 writes: "random.cpu.R" and, of a GPU,
// "random.cuda.R" of rank R. All ranks call it; empty on the others.
std::vector<std::pair<std::string, at::Tensor>> random_of_other_ranks(ProcessGroup& group,
                                                                      at::Device device);

// This rank's (not rank 0's) state from a checkpoint; a warning if it has none, being of fewer ranks.
void restore_rank_random(const std::filesystem::path& checkpoint, int64_t rank, at::Device device);

// Dropout differs from rank to rank; rank 0 is as a run of one rank and does not call this.
void seed_rank(uint64_t seed, int64_t rank);

}  // namespace llama2zh
