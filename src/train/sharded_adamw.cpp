// ZeRO stages 1 and 2 (Rajbhandari et al. 2020) around AdamW, which sees this rank's parts as
// parameters of one dimension and knows nothing of ranks. Weights of all shards lie in one flat
// tensor, so that a step ends with one exchange of equal parts, without copies.
#include "llama2zh/train/sharded_adamw.h"

#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "llama2zh/base/error.h"
#include "llama2zh/train/moment_files.h"

namespace llama2zh {
namespace {

// The layer that uses a parameter; the embeddings come first, norm and head last. A tied head is the
// embeddings: their gradient is the last that is complete.
int64_t forward_position(const std::string& name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (name.starts_with("model.embed_tokens")) return -1;
  if (!name.starts_with(kLayers)) return std::numeric_limits<int64_t>::max();
  return std::atoll(name.c_str() + kLayers.size());
}

}  // namespace

Sharding sharding_of(const DistributedConfig& config) {
  if (!config.offload_optimizer) return {config.zero_stage, std::nullopt};
  if (config.zero_stage == 0) {
    fail_usage("distributed.offload_optimizer", "it needs distributed.zero_stage 1 or 2",
               "set distributed.zero_stage 1; one rank will do");
  }
  return {config.zero_stage, at::Device(at::kCPU)};
}

ShardedAdamW::ShardedAdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options,
                           const Sharding& sharding, ProcessGroup* group)
    : parameters_(std::move(parameters)), group_(group) {
  std::stable_sort(parameters_.begin(), parameters_.end(), [](const auto& a, const auto& b) {
    return forward_position(a.name) < forward_position(b.name);
  });
  if (sharding.stage > 0 && !parameters_.empty()) {
    lay_out(options, sharding);
    return;
  }
  adamw_ = std::make_unique<AdamW>(parameters_, options);
}

void ShardedAdamW::lay_out(const AdamWOptions& options, const Sharding& sharding) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> elements;
  for (const NamedParameter& parameter : parameters_) elements.push_back(parameter.tensor.numel());
  layout_.emplace(elements, group_ == nullptr ? 1 : group_->size());
  flat_ = at::zeros({layout_->flat_elements()},
                    parameters_[0].tensor.options().dtype(at::kFloat).requires_grad(false));
  make_flat(flat_);
  std::vector<NamedParameter> parts;
  std::vector<int64_t> wholes;
  for (const ShardPiece& piece : layout_->shard(group_ == nullptr ? 0 : group_->rank())) {
    OwnPart part{piece, flat_.narrow(0, piece.offset, piece.count), {}};
    part.master =
        sharding.state_device
            ? at::empty_like(part.values, part.values.options().device(*sharding.state_device))
            : part.values;
    parts.push_back({parameters_[piece.parameter].name, part.master});
    wholes.push_back(elements[piece.parameter]);
    own_.push_back(std::move(part));
  }
  adamw_ = std::make_unique<AdamW>(std::move(parts), options, wholes);
  if (sharding.stage == 2 && group_ != nullptr) {
    shard_gradient_ = at::zeros({layout_->shard_elements()}, flat_.options());
  }
}

// The model's own tensors keep their identity; where their values lie changes.
void ShardedAdamW::make_flat(at::Tensor& flat) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& parameter = parameters_[i].tensor;
    at::Tensor place =
        flat.narrow(0, layout_->offset(i), layout_->elements(i)).view(parameter.sizes());
    place.copy_(parameter);
    parameter.set_data(place);
  }
}

at::Tensor ShardedAdamW::gradient_of(const ShardPiece& piece) const {
  if (shard_gradient_.defined()) {
    const int64_t shard_begin = group_->rank() * layout_->shard_elements();
    return shard_gradient_.narrow(0, piece.offset - shard_begin, piece.count);
  }
  const at::Tensor& gradient = parameters_[piece.parameter].tensor.grad();
  if (!gradient.defined()) return {};
  return gradient.reshape(-1).narrow(0, piece.begin, piece.count);
}

double ShardedAdamW::gradient_norm(const std::string& what) const {
  if (!layout_) return adamw_->gradient_norm();
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const OwnPart& part : own_) {
    const at::Tensor gradient = gradient_of(part.piece);
    if (gradient.defined()) gradients.push_back(gradient);
  }
  double norm = 0;
  if (!gradients.empty()) {
    norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2).item<double>();
  }
  if (group_ == nullptr) return norm;
  return std::sqrt(group_->sum({norm * norm}, "the gradients' norm of " + what)[0]);
}

void ShardedAdamW::step(double learning_rate, double gradient_divisor, const std::string& what) {
  if (!layout_) {
    adamw_->step(learning_rate, gradient_divisor);
    return;
  }
  const at::NoGradGuard no_grad;
  for (OwnPart& part : own_) {
    const bool apart = !part.master.is_same(part.values);
    if (apart) part.master.copy_(part.values);
    const at::Tensor gradient = gradient_of(part.piece);
    if (gradient.defined()) part.master.mutable_grad() = gradient.to(part.master.device());
  }
  adamw_->step(learning_rate, gradient_divisor);
  adamw_->zero_grad();
  for (OwnPart& part : own_) {
    if (!part.master.is_same(part.values)) part.values.copy_(part.master);
  }
  if (group_ != nullptr) group_->share_parts(flat_, "the updated weights of " + what);
}

void ShardedAdamW::zero_grad() {
  for (NamedParameter& parameter : parameters_) parameter.tensor.mutable_grad().reset();
  if (shard_gradient_.defined()) shard_gradient_.zero_();
}

std::vector<HeldMoment> ShardedAdamW::state() const {
  std::vector<HeldMoment> result;
  for (size_t i = 0; i < adamw_->parameters().size(); ++i) {
    const int64_t begin = layout_ ? own_[i].piece.begin : 0;
    const int64_t whole = layout_ ? layout_->elements(own_[i].piece.parameter)
                                  : adamw_->parameters()[i].tensor.numel();
    for (auto& [name, values] : adamw_->state_of(i)) {
      const int64_t per = AdamW::is_scales(name) ? QuantizedMoment::kBlock : 1;
      result.push_back({name, values, begin / per, (whole + per - 1) / per});
    }
  }
  return result;
}

void ShardedAdamW::load_state(const MomentFiles& files, int64_t updates) {
  const at::NoGradGuard no_grad;
  for (const HeldMoment& moment : state()) files.read(moment);
  adamw_->set_updates(updates);
}

}  // namespace llama2zh
