#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "llama2zh/distributed/process_group.h"

namespace llama2zh {

// Sums `gradient` [V, H] over the ranks, in place, where this rank's is zero but in the rows `touched`
// (int64, each once, on gradient's device). Sends only these rows when that is less traffic than the
// whole matrix; which of the two is the same on all ranks (true: rows). The sum is the same to the
// last bit on every rank.
bool sum_touched_rows(ProcessGroup& group, at::Tensor& gradient, const at::Tensor& touched,
                      const std::string& what);

}  // namespace llama2zh
