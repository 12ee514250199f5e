#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/model/trained_weights.h"
#include "llama2zh/train/quantized_moment.h"

namespace llama2zh {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double loraplus_lr_ratio = 1;    // of lora_B and lora_magnitude_vector, as PEFT's LoRA+
  double embedding_lr_factor = 1;  // of embed_tokens and lm_head
  bool eight_bit = false;          // moments of kMinQuantized elements and more in 8 bits
};

// Whether Hugging Face's Trainer decays a weight of this name: all but norms and biases.
bool is_decayed(const std::string& name);

// How one parameter is updated; those with the same rule make a group.
struct ParameterRule {
  double lr_factor = 1;
  double weight_decay = 0;
  bool operator==(const ParameterRule&) const = default;
};
ParameterRule parameter_rule(const std::string& name, const AdamWOptions& options);

// AdamW with decoupled weight decay over fp32 masters, libtorch's fused kernel on every device.
// Gradients are read from the parameters' grad(). Not thread-safe.
class AdamW {
 public:
  // Where parameters are parts of larger ones, `whole_elements` says of how many elements each:
  // whether its moments have 8 bits depends on the whole.
  AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options,
        const std::vector<int64_t>& whole_elements = {});

  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  int64_t updates() const { return updates_; }  // steps applied so far

  // Global L2 norm of all gradients as they stand; a missing gradient counts as zero.
  double gradient_norm() const;
  // One update with the gradients divided by `gradient_divisor` (loss scale and clipping in one
  // pass; they are overwritten). A parameter without a gradient is updated as if it were zero.
  void step(double learning_rate, double gradient_divisor);
  void zero_grad();

  // Moments under "exp_avg.NAME" and "exp_avg_sq.NAME", for a checkpoint; one in 8 bits is a uint8
  // tensor and its scales under "exp_avg.NAME.absmax".
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  std::vector<std::pair<std::string, at::Tensor>> state_of(size_t parameter) const;
  static bool is_scales(const std::string& name);  // an ".absmax": one number a block
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  struct Moments {
    at::Tensor exp_avg, exp_avg_sq;                  // fp32, or undefined and
    std::optional<QuantizedMoment> small, small_sq;  // in 8 bits
  };
  struct Group {
    ParameterRule rule;
    std::vector<size_t> members;  // indices into parameters_, moments_
  };
  void update(const Group& group, double learning_rate, const std::optional<at::Tensor>& divisor);
  void update_quantized(size_t index, const ParameterRule& rule, double learning_rate,
                        const std::optional<at::Tensor>& divisor);
  void apply(const ParameterRule& rule, double learning_rate,
             const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& grads,
             const std::vector<at::Tensor>& exp_avgs, const std::vector<at::Tensor>& exp_avg_sqs,
             const std::optional<at::Tensor>& divisor);
  std::vector<NamedParameter> parameters_;
  std::vector<Moments> moments_;  // of each parameter
  AdamWOptions options_;
  std::vector<Group> groups_;
  int64_t updates_ = 0;
};

}  // namespace llama2zh
