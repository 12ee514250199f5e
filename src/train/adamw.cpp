// AdamW (Loshchilov and Hutter 2019) as torch.optim.AdamW(fused=True) computes it:
//   p -= lr wd p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// at::_fused_adamw_ does this in one pass over memory, with the gradient divided by grad_scale on
// the way: clipping and loss scaling cost no pass of their own. With moments in 8 bits it runs over a
// piece of a parameter at a time, whose moments are decoded before and encoded after.
#include "llama2zh/train/adamw.h"

#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

bool has_component_ending(const std::string& name, const std::string& ending) {
  for (const std::string& part : split(name, '.')) {
    if (part.ends_with(ending)) return true;
  }
  return false;
}

constexpr const char* kScales = ".absmax";

at::Tensor gradient_or_zero(const at::Tensor& parameter) {
  const at::Tensor& grad = parameter.grad();
  return grad.defined() ? grad.contiguous() : at::zeros_like(parameter.detach());
}

}  // namespace

// transformers/trainer_pt_utils.py get_parameter_names() with Trainer's forbidden patterns: bias,
// layernorm, rmsnorm, norm and *_norm as a component of the name.
bool is_decayed(const std::string& name) {
  if (name.find("bias") != std::string::npos) return false;
  if (name.find("layernorm") != std::string::npos) return false;
  if (name.find("rmsnorm") != std::string::npos) return false;
  for (const std::string& part : split(name, '.')) {
    if (part == "norm") return false;
  }
  return !has_component_ending(name, "_norm");
}

// PEFT's create_loraplus_optimizer: B and what has one dimension learn faster.
ParameterRule parameter_rule(const std::string& name, const AdamWOptions& options) {
  ParameterRule rule;
  rule.weight_decay = is_decayed(name) ? options.weight_decay : 0;
  for (const std::string& part : split(name, '.')) {
    if (part == "lora_B" || part == "lora_magnitude_vector") {
      rule.lr_factor = options.loraplus_lr_ratio;
    } else if (part == "embed_tokens" || part == "lm_head") {
      rule.lr_factor = options.embedding_lr_factor;
    }
  }
  return rule;
}

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options,
             const std::vector<int64_t>& whole_elements)
    : parameters_(std::move(parameters)), moments_(parameters_.size()), options_(options) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor weight = parameters_[i].tensor.detach();
    const int64_t whole = whole_elements.empty() ? weight.numel() : whole_elements[i];
    if (options.eight_bit && whole >= kMinQuantized) {
      moments_[i].small.emplace(weight.numel(), /*is_signed=*/true, weight.device());
      moments_[i].small_sq.emplace(weight.numel(), /*is_signed=*/false, weight.device());
    } else {
      moments_[i].exp_avg = at::zeros_like(weight);
      moments_[i].exp_avg_sq = at::zeros_like(weight);
    }
    const ParameterRule rule = parameter_rule(parameters_[i].name, options);
    const auto group = std::find_if(groups_.begin(), groups_.end(),
                                    [&](const Group& g) { return g.rule == rule; });
    (group == groups_.end() ? groups_.emplace_back(Group{rule, {}}) : *group).members.push_back(i);
  }
}

double AdamW::gradient_norm() const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> defined;
  for (const NamedParameter& parameter : parameters_) {
    if (parameter.tensor.grad().defined()) defined.push_back(parameter.tensor.grad());
  }
  if (defined.empty()) return 0;
  const std::vector<at::Tensor> norms = at::_foreach_norm(defined, 2);
  return at::linalg_vector_norm(at::stack(norms), 2).item<double>();
}

void AdamW::apply(const ParameterRule& rule, double learning_rate,
                  const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& grads,
                  const std::vector<at::Tensor>& exp_avgs,
                  const std::vector<at::Tensor>& exp_avg_sqs,
                  const std::optional<at::Tensor>& divisor) {
  const at::Tensor count = at::full({}, static_cast<double>(updates_),
                                    weights[0].options().dtype(at::kFloat).requires_grad(false));
  const std::vector<at::Tensor> counts(weights.size(), count);
  at::_fused_adamw_(weights, grads, exp_avgs, exp_avg_sqs, {}, counts,
                    learning_rate * rule.lr_factor, options_.beta1, options_.beta2,
                    rule.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false,
                    divisor);
}

void AdamW::update_quantized(size_t index, const ParameterRule& rule, double learning_rate,
                             const std::optional<at::Tensor>& divisor) {
  constexpr int64_t kPiece =
      512 * QuantizedMoment::kBlock;  // what a pass touches stays in a core's cache
  const at::Tensor weights = parameters_[index].tensor.detach().view(-1);
  const at::Tensor grads = gradient_or_zero(parameters_[index].tensor).view(-1);
  QuantizedMoment &first = *moments_[index].small, &second = *moments_[index].small_sq;
  for (int64_t begin = 0; begin < weights.size(0); begin += kPiece) {
    const int64_t count = std::min(kPiece, weights.size(0) - begin);
    const at::Tensor exp_avg = first.load(begin, count), exp_avg_sq = second.load(begin, count);
    apply(rule, learning_rate, {weights.narrow(0, begin, count)}, {grads.narrow(0, begin, count)},
          {exp_avg}, {exp_avg_sq}, divisor);
    first.store(begin, exp_avg);
    second.store(begin, exp_avg_sq);
  }
}

void AdamW::update(const Group& group, double learning_rate,
                   const std::optional<at::Tensor>& divisor) {
  std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs;
  for (const size_t index : group.members) {
    if (moments_[index].small) {
      update_quantized(index, group.rule, learning_rate, divisor);
      continue;
    }
    weights.push_back(parameters_[index].tensor);
    grads.push_back(gradient_or_zero(parameters_[index].tensor));
    exp_avgs.push_back(moments_[index].exp_avg);
    exp_avg_sqs.push_back(moments_[index].exp_avg_sq);
  }
  if (!weights.empty()) {
    apply(group.rule, learning_rate, weights, grads, exp_avgs, exp_avg_sqs, divisor);
  }
}

void AdamW::step(double learning_rate, double gradient_divisor) {
  const at::NoGradGuard no_grad;
  ++updates_;
  for (const Group& group : groups_) {
    const at::Tensor& first = parameters_[group.members[0]].tensor;
    std::optional<at::Tensor> divisor;
    if (gradient_divisor != 1) {
      divisor =
          at::full({}, gradient_divisor, first.options().dtype(at::kFloat).requires_grad(false));
    }
    update(group, learning_rate, divisor);
  }
}

void AdamW::zero_grad() {
  for (NamedParameter& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state_of(size_t parameter) const {
  const std::string first = "exp_avg." + parameters_[parameter].name;
  const std::string second = "exp_avg_sq." + parameters_[parameter].name;
  const Moments& moments = moments_[parameter];
  if (!moments.small) return {{first, moments.exp_avg}, {second, moments.exp_avg_sq}};
  return {{first, moments.small->codes()},
          {first + kScales, moments.small->absmax()},
          {second, moments.small_sq->codes()},
          {second + kScales, moments.small_sq->absmax()}};
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state() const {
  std::vector<std::pair<std::string, at::Tensor>> result;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    for (auto& moment : state_of(i)) result.push_back(std::move(moment));
  }
  return result;
}

bool AdamW::is_scales(const std::string& name) { return name.ends_with(kScales); }

}  // namespace llama2zh
