#pragma once

#include <memory>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/distributed/gradient_sync.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/distributed/shard_reducer.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/train/sharded_adamw.h"

namespace llama2zh {

// The gradients of a step, summed over all ranks: while the backward pass of the last micro-batch runs
// (GradientSync), but those of untied embeddings (train.first_trained_row or not) after it, by the
// rows that were touched. Where
// gradients are sharded, every micro-batch's are summed into the owners' shards (ShardReducer).
class RankGradients {
 public:
  RankGradients(ProcessGroup& group, const Llama& model, const ShardedAdamW& optimizer);
  void start(bool is_last);  // before each micro-batch's forward pass
  // In place of the micro-batches that other ranks have more of: this one has `own`, the one with
  // the most `most`.
  void make_up(int64_t own, int64_t most);
  // After the last backward pass; `batches` are those of the step.
  void finish(const std::vector<PackedBatch>& batches, const std::string& what);

 private:
  ProcessGroup* group_;
  std::vector<at::Tensor> summed_in_backward_;
  std::unique_ptr<ShardReducer> reducer_;  // none: every rank keeps all sums
  at::Tensor embeddings_;                  // undefined: frozen, tied or otherwise part of the above
  int64_t first_row_ = 0;                  // embeddings_ are the rows of the matrix from here on
  std::unique_ptr<GradientSync> sync_;
};

// kUsage naming the ranks whose `value` is not rank 0's; `what` is what it describes.
void check_same_on_all_ranks(ProcessGroup& group, const std::string& value,
                             const std::string& what);

// Over names and bytes of everything that trains.
std::string parameters_fingerprint(const std::vector<NamedParameter>& parameters);

}  // namespace llama2zh
