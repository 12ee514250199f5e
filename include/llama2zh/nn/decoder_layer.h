#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "llama2zh/nn/attention_context.h"
#include "llama2zh/nn/linear.h"

namespace llama2zh {

// The shapes that a layer needs.
struct LayerShape {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  double rms_norm_eps = 1e-5;
};

struct RotaryTables {
  at::Tensor cos, sin;  // [T, d] fp32
};

// Names are Hugging Face's: self_attn.q_proj is Attention::q_proj.
struct Attention {
  Linear q_proj, k_proj, v_proj, o_proj;
  std::array<const Linear*, 3> input_projections() const { return {&q_proj, &k_proj, &v_proj}; }
  // x [T, H] -> [T, H]
  at::Tensor forward(const NormedInput& input, const RotaryTables& rotary,
                     AttentionContext& context, int64_t layer, const LayerShape& shape,
                     bool training) const;
};

struct Mlp {
  Linear gate_proj, up_proj, down_proj;
  std::array<const Linear*, 2> input_projections() const { return {&gate_proj, &up_proj}; }
  at::Tensor forward(const NormedInput& input, bool training) const;  // down(silu(gate) * up)
};

struct DecoderLayer {
  at::Tensor input_layernorm;  // [H]
  Attention self_attn;
  at::Tensor post_attention_layernorm;  // [H]
  Mlp mlp;
  // x [T, H] -> [T, H]
  at::Tensor forward(const at::Tensor& x, const RotaryTables& rotary, AttentionContext& context,
                     int64_t layer, const LayerShape& shape, bool training) const;
};

}  // namespace llama2zh
