#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/model/llama.h"

namespace llama2zh {

// Floating-point operations that the mathematics of a training step needs, for model FLOPs
// utilisation (MFU = these / seconds / peak of the matrix products). A multiply-add is two.
//   matrices  4 a weight and token: forward 2, gradient of the input 2 (frozen weights too)
//             2 more a trained weight and token: its gradient; so LoRA's A and B and full
//             training cost 6, as in PaLM's definition
//   head      the same, for supervised tokens only; where only its last rows train, they alone have
//             a gradient
//   attention 12 x heads x head_dim x pairs of tokens that see each other, a layer: causal, within
//             a sequence (PaLM counts every pair of a block)
// Recomputation by activation checkpointing, norms, softmax, embedding lookups and the optimizer
// are not counted: they are what lowers the MFU.
class StepCost {
 public:
  // What trains is read off the model's requires_grad marks.
  explicit StepCost(Llama& model);
  double flops(const PackedBatch& batch) const;
  double flops(const std::vector<PackedBatch>& batches) const;

 private:
  double per_token_ = 0;       // matrices below the head
  double per_supervised_ = 0;  // head
  double per_pair_ = 0;        // attention of all layers
};

}  // namespace llama2zh
