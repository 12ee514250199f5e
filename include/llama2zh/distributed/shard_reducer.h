#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "llama2zh/distributed/process_group.h"
#include "llama2zh/distributed/shard_layout.h"

namespace llama2zh {

// Sums gradients over the ranks into the shards of their owners while the backward pass still runs.
//
//   reducer.start();
//   loss.backward();     // or touch(parameters) on a rank that has no loss in this round
//   ...                  // any number of rounds, the same on all ranks
//   reducer.finish();    // `gradient` has grown by the sums over ranks and rounds
//
// A parameter's grad() is gone as soon as all of it has been sent. Each parameter has to get its
// gradient once in every round. The exchange begins at the end of the layout, so parameters should be
// laid out in the order in which the forward pass uses them.
class ShardReducer {
 public:
  // `parameters` are those of the layout, of one device, fp32; `gradient` [shard_elements] is this
  // rank's shard. `bucket_elements` are sent at once, at most.
  ShardReducer(ProcessGroup& group, const ShardLayout& layout, std::vector<at::Tensor> parameters,
               at::Tensor gradient, int64_t bucket_elements = 1 << 22);
  ~ShardReducer();
  ShardReducer(const ShardReducer&) = delete;
  ShardReducer& operator=(const ShardReducer&) = delete;
  void start();
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llama2zh
