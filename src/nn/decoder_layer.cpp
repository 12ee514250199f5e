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
  at::Tensor q = q_proj.forward(x, training).view({tokens, shape.num_attention_heads, d});
  at::Tensor k = k_proj.forward(x, training).view({tokens, shape.num_key_value_heads, d});
  const at::Tensor v = v_proj.forward(x, training).view({tokens, shape.num_key_value_heads, d});
  q = apply_rotary(q, rotary.cos, rotary.sin);
  k = apply_rotary(k, rotary.cos, rotary.sin);
  const at::Tensor mixed = context.attend(layer, q, k, v);  // [T, nq, d]
  return o_proj.forward(mixed.reshape({tokens, shape.num_attention_heads * d}), training);
}

at::Tensor Mlp::forward(const at::Tensor& x, bool training) const {
  const at::Tensor gate = gate_proj.forward(x, training);                          // [T, I]
  return down_proj.forward(swiglu(gate, up_proj.forward(x, training)), training);  // [T, H]
}

at::Tensor DecoderLayer::forward(const at::Tensor& x, const RotaryTables& rotary,
                                 AttentionContext& context, int64_t layer, const LayerShape& shape,
                                 bool training) const {
  const at::Tensor normed = rms_norm(x, input_layernorm, shape.rms_norm_eps);
  const at::Tensor h = x + self_attn.forward(normed, rotary, context, layer, shape, training);
  return h + mlp.forward(rms_norm(h, post_attention_layernorm, shape.rms_norm_eps), training);
}

}  // namespace llama2zh
