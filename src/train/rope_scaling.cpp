// The section's names and the model's are kept apart here alone.
#include "llama2zh/train/rope_scaling.h"

namespace llama2zh {

void apply_rope_scaling(const RopeScalingConfig& asked, LlamaConfig& model) {
  if (asked.rope_type.empty()) return;
  RopeConfig scaling;
  scaling.type = asked.rope_type;
  scaling.factor = asked.factor;
  scaling.original_max_position_embeddings = asked.original_max_position_embeddings;
  scaling.beta_fast = asked.beta_fast;
  scaling.beta_slow = asked.beta_slow;
  scaling.attention_factor = asked.attention_factor;
  scaling.low_freq_factor = asked.low_freq_factor;
  scaling.high_freq_factor = asked.high_freq_factor;
  set_rope_scaling(model, scaling);
}

}  // namespace llama2zh
