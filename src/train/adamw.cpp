// AdamW (Loshchilov and Hutter 2019) as torch.optim.AdamW(fused=True) computes it:
//   p -= lr wd p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// at::_fused_adamw_ does this in one pass over memory, with the gradient divided by grad_scale on
// the way: clipping and loss scaling cost no pass of their own.
#include "llama2zh/train/adamw.h"

#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

bool has_component_ending(const std::string& name, const std::string& ending) {
  for (const std::string& part : split(name, '.')) {
    if (part.ends_with(ending)) return true;
  }
  return false;
}

void copy_moment(at::Tensor& moment, const TensorSource& source, const std::string& name) {
  const at::Tensor stored = source.load(source.require(name).name);
  if (stored.sizes() != moment.sizes()) {
    fail_format(source.describe(), cat("'", name, "' has another shape than the weight it is for"));
  }
  moment.copy_(stored);
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

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options), groups_(2) {
  groups_[0].weight_decay = options.weight_decay;
  for (const NamedParameter& parameter : parameters_) {
    const size_t group = is_decayed(parameter.name) ? 0 : 1;
    places_.emplace_back(group, groups_[group].parameters.size());
    groups_[group].parameters.push_back(parameter.tensor);
    groups_[group].exp_avgs.push_back(at::zeros_like(parameter.tensor.detach()));
    groups_[group].exp_avg_sqs.push_back(at::zeros_like(parameter.tensor.detach()));
  }
}

std::vector<at::Tensor> AdamW::gradients(const Group& group) const {
  std::vector<at::Tensor> result;
  result.reserve(group.parameters.size());
  for (const at::Tensor& parameter : group.parameters) {
    const at::Tensor& grad = parameter.grad();
    result.push_back(grad.defined() ? grad.contiguous() : at::zeros_like(parameter.detach()));
  }
  return result;
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

void AdamW::step(double learning_rate, double gradient_divisor) {
  const at::NoGradGuard no_grad;
  ++updates_;
  for (Group& group : groups_) {
    if (group.parameters.empty()) continue;
    const auto scalar = group.parameters[0].options().dtype(at::kFloat).requires_grad(false);
    const at::Tensor count = at::full({}, static_cast<double>(updates_), scalar);
    const std::vector<at::Tensor> counts(group.parameters.size(), count);
    std::optional<at::Tensor> divisor;
    if (gradient_divisor != 1) divisor = at::full({}, gradient_divisor, scalar);
    const std::vector<at::Tensor> grads = gradients(group);
    at::_fused_adamw_(group.parameters, grads, group.exp_avgs, group.exp_avg_sqs, {}, counts,
                      learning_rate, options_.beta1, options_.beta2, group.weight_decay,
                      options_.epsilon, /*amsgrad=*/false, /*maximize=*/false, divisor);
  }
}

void AdamW::zero_grad() {
  for (NamedParameter& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state() const {
  std::vector<std::pair<std::string, at::Tensor>> result;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto [group, index] = places_[i];
    result.emplace_back("exp_avg." + parameters_[i].name, groups_[group].exp_avgs[index]);
    result.emplace_back("exp_avg_sq." + parameters_[i].name, groups_[group].exp_avg_sqs[index]);
  }
  return result;
}

void AdamW::load_state(const TensorSource& source, int64_t updates) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto [group, index] = places_[i];
    copy_moment(groups_[group].exp_avgs[index], source, "exp_avg." + parameters_[i].name);
    copy_moment(groups_[group].exp_avg_sqs[index], source, "exp_avg_sq." + parameters_[i].name);
  }
  updates_ = updates;
}

}  // namespace llama2zh
