#pragma once

#include "llama2zh/model/llama_config.h"
#include "llama2zh/train/rope_scaling_config.h"

namespace llama2zh {

// Puts the "model.rope_scaling" section into `model` (set_rope_scaling); nothing happens while
// rope_type is empty.
void apply_rope_scaling(const RopeScalingConfig& asked, LlamaConfig& model);

}  // namespace llama2zh
