#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/lora.h"

namespace llama2zh {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

// Whether Hugging Face's Trainer decays a weight of this name: all but norms and biases.
bool is_decayed(const std::string& name);

// AdamW with decoupled weight decay over fp32 masters, libtorch's fused kernel on every device.
// Gradients are read from the parameters' grad(). Not thread-safe.
class AdamW {
 public:
  AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options);

  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  int64_t updates() const { return updates_; }  // steps applied so far

  // Global L2 norm of all gradients as they stand; a missing gradient counts as zero.
  double gradient_norm() const;
  // One update with the gradients divided by `gradient_divisor` (loss scale and clipping in one
  // pass; they are overwritten). A parameter without a gradient is updated as if it were zero.
  void step(double learning_rate, double gradient_divisor);
  void zero_grad();

  // Moments under "exp_avg.NAME" and "exp_avg_sq.NAME", for a checkpoint.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  // kFormat if a moment is missing or has another shape.
  void load_state(const TensorSource& source, int64_t updates);

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<at::Tensor> parameters, exp_avgs, exp_avg_sqs;
  };
  std::vector<at::Tensor> gradients(const Group& group) const;
  std::vector<NamedParameter> parameters_;
  AdamWOptions options_;
  std::vector<Group> groups_;                      // decayed, not decayed
  std::vector<std::pair<size_t, size_t>> places_;  // of each parameter: group, index
  int64_t updates_ = 0;
};

}  // namespace llama2zh
