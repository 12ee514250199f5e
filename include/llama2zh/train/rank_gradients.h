#pragma once

#include <memory>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/distributed/gradient_sync.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/model/lora.h"

namespace llama2zh {

// The gradients of a step, summed over all ranks: while the backward pass of the last micro-batch runs
// (GradientSync), but those of untied embeddings after it, by the rows that were touched.
class RankGradients {
 public:
  RankGradients(ProcessGroup& group, const Llama& model,
                const std::vector<NamedParameter>& parameters);
  void start();        // before the last micro-batch's forward pass
  void touch() const;  // in place of one, on a rank that has nothing to learn from in this step
  // After the last backward pass; `batches` are those of the step that had one.
  void finish(const std::vector<PackedBatch>& batches, const std::string& what);

 private:
  ProcessGroup* group_;
  std::vector<at::Tensor> summed_in_backward_;
  at::Tensor embeddings_;  // undefined: frozen, tied or otherwise part of the above
  std::unique_ptr<GradientSync> sync_;
};

// kUsage naming the ranks whose `value` is not rank 0's; `what` is what it describes.
void check_same_on_all_ranks(ProcessGroup& group, const std::string& value,
                             const std::string& what);

// Over names and bytes of everything that trains.
std::string parameters_fingerprint(const std::vector<NamedParameter>& parameters);

}  // namespace llama2zh
