// One layer of LLaMA: x + attention(norm(x)), then x + mlp(norm(x)). Shapes: T tokens, H hidden, I
// intermediate, nq query heads, nk key-value heads, d head_dim.
#include "llama2zh/nn/decoder_layer.h"

#include <ATen/TensorOperators.h>

#include "llama2zh/kernels/rms_norm.h"
#include "llama2zh/kernels/rotary.h"
#include "llama2zh/kernels/swiglu.h"

namespace llama2zh {

at::Tensor Attention::forward(const at::Tensor& x, const RotaryTables& rotary,
                              AttentionContext& context, int64_t layer, const LayerShape& shape,
                              bool training) const {
  const int64_t tokens = x.size(0), d = shape.head_dim;
  const Linear* const projections[] = {&q_proj, &k_proj, &v_proj};
  const std::vector<at::Tensor> projected = forward_together(projections, x, training);
  const at::Tensor v = projected[2].view({tokens, shape.num_key_value_heads, d});
  const auto [q, k] = apply_rotary(projected[0].view({tokens, shape.num_attention_heads, d}),
                                   projected[1].view({tokens, shape.num_key_value_heads, d}),
                                   rotary.cos, rotary.sin);
  const at::Tensor mixed = context.attend(layer, q, k, v);  // [T, nq, d]
  return o_proj.forward(mixed.reshape({tokens, shape.num_attention_heads * d}), training);
}

at::Tensor Mlp::forward(const at::Tensor& x, bool training) const {
  const Linear* const projections[] = {&gate_proj, &up_proj};
  const std::vector<at::Tensor> both = forward_together(projections, x, training);  // [T, I]
  return down_proj.forward(swiglu(both[0], both[1]), training);                     // [T, H]
}

at::Tensor DecoderLayer::forward(const at::Tensor& x, const RotaryTables& rotary,
                                 AttentionContext& context, int64_t layer, const LayerShape& shape,
                                 bool training) const {
  const at::Tensor normed = rms_norm(x, input_layernorm, shape.rms_norm_eps);
  const auto [h, normed_h] =
      add_rms_norm(x, self_attn.forward(normed, rotary, context, layer, shape, training),
                   post_attention_layernorm, shape.rms_norm_eps);
  return h + mlp.forward(normed_h, training);
}

}  // namespace llama2zh
