// Counting is over the model's own matrices, so that it holds for every method and shape.
#include "llama2zh/train/cost.h"

namespace llama2zh {
namespace {

double flops_a_token(const at::Tensor& weight) {
  return static_cast<double>(weight.numel()) * (weight.requires_grad() ? 6 : 4);
}

double flops_a_token(const Linear& linear) {
  if (!linear.quantized) return flops_a_token(linear.weight);
  return 4 * static_cast<double>(linear.out_features() * linear.in_features());
}

}  // namespace

StepCost::StepCost(Llama& model) {
  model.for_each_projection([&](const std::string&, Linear& linear) {
    per_token_ += flops_a_token(linear);
    if (linear.lora) per_token_ += flops_a_token(linear.lora->a) + flops_a_token(linear.lora->b);
  });
  per_supervised_ = flops_a_token(model.lm_head);
  if (model.lm_head_rows.defined()) {  // only they train; the matrix itself is frozen
    per_supervised_ += 2 * static_cast<double>(model.lm_head_rows.numel());
  }
  const LlamaConfig& config = model.config;
  per_pair_ = 12.0 * static_cast<double>(config.num_hidden_layers * config.num_attention_heads *
                                         config.head_dim);
}

double StepCost::flops(const PackedBatch& batch) const {
  if (batch.supervised == 0) return 0;  // not run at all
  double pairs = 0;
  for (size_t i = 0; i + 1 < batch.boundaries.size(); ++i) {
    const auto length = static_cast<double>(batch.boundaries[i + 1] - batch.boundaries[i]);
    pairs += length * (length + 1) / 2;
  }
  return per_token_ * static_cast<double>(batch.ids.size(0)) +
         per_supervised_ * static_cast<double>(batch.supervised) + per_pair_ * pairs;
}

double StepCost::flops(const std::vector<PackedBatch>& batches) const {
  double sum = 0;
  for (const PackedBatch& batch : batches) sum += flops(batch);
  return sum;
}

}  // namespace llama2zh
