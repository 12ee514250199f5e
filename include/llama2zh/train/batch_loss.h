#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/model/llama.h"

namespace llama2zh {

using LossMetrics = std::vector<std::pair<std::string, double>>;  // name, mean

// How a micro-batch becomes a loss, where it is not the cross-entropy of its tokens. A step's loss is
// the sum over all its micro-batches divided by their count. One thread.
class BatchLoss {
 public:
  virtual ~BatchLoss() = default;
  // Changes a batch from the loader before anything else sees it.
  virtual void prepare(PackedBatch& batch) const = 0;
  // What the sum runs over; 0: the batch is left out.
  virtual int64_t count(const PackedBatch& batch) const = 0;
  // A scalar, differentiable unless gradients are off. `sequences` are the batch's.
  virtual at::Tensor sum(const Llama& model, const PackedBatch& batch, PackedSequences& sequences,
                         const ForwardOptions& options) = 0;
  // Means over what was summed since the last call, for the log. With a group over what all ranks
  // summed: every rank has to call it.
  virtual LossMetrics take_metrics(ProcessGroup* group) = 0;
};

}  // namespace llama2zh
