#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "llama2zh/distributed/process_group.h"

namespace llama2zh {

// Sums the gradients of parameters over the ranks while the backward pass still runs. Used once a
// step, for its last micro-batch; gradients of the earlier ones add up in the parameters before.
//
//   sync.start();
//   loss.backward();                        // or, on a rank that has no loss left,
//   touch(parameters);                      // a backward pass without gradients
//   // each parameter's grad() is now the sum over all ranks, a view into a bucket
//
// Each parameter has to get its gradient exactly once in that backward pass. All parameters on one
// device, of one type, in the order in which the forward pass uses them, without gradients before;
// the exchange begins at their end. The constructor already exchanges once.
class GradientSync {
 public:
  GradientSync(ProcessGroup& group, const std::vector<at::Tensor>& parameters);
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;
  void start();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A backward pass that reaches every parameter and brings it nothing: a gradient that is there stays
// as it is, and a GradientSync that waits for the parameters' turn gets it.
void touch(const std::vector<at::Tensor>& parameters);

}  // namespace llama2zh
