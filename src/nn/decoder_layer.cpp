// One layer of LLaMA: x + attention(norm(x)), then x + mlp(norm(x)). Shapes: T tokens, H hidden, I
// intermediate, nq query heads, nk key-value heads, d head_dim.
#include "llama2zh/nn/decoder_layer.h"

#include <ATen/TensorOperators.h>

#include "llama2zh/kernels/rms_norm.h"
#include "llama2zh/kernels/rotary.h"
#include "llama2zh/kernels/swiglu.h"

namespace llama2zh {

at::Tensor Attention::forward(const NormedInput& input, const RotaryTables& rotary,
                              AttentionContext& context, int64_t layer, const LayerShape& shape,
                              bool training) const {
  const int64_t tokens = input.x.size(0), d = shape.head_dim;
  const std::vector<at::Tensor> projected = forward_together(input_projections(), input, training);
  const at::Tensor v = projected[2].view({tokens, shape.num_key_value_heads, d});
  const auto [q, k] = apply_rotary(projected[0].view({tokens, shape.num_attention_heads, d}),
                                   projected[1].view({tokens, shape.num_key_value_heads, d}),
                                   rotary.cos, rotary.sin);
  const at::Tensor mixed = context.attend(layer, q, k, v);  // [T, nq, d]
  return o_proj.forward(mixed.reshape({tokens, shape.num_attention_heads * d}), training);
}

at::Tensor Mlp::forward(const NormedInput& input, bool training) const {
  const std::vector<at::Tensor> both =
      forward_together(input_projections(), input, training);    // [T, I]
  return down_proj.forward(swiglu(both[0], both[1]), training);  // [T, H]
}

at::Tensor DecoderLayer::forward(const at::Tensor& x, const RotaryTables& rotary,
                                 AttentionContext& context, int64_t layer, const LayerShape& shape,
                                 bool training) const {
  const double eps = shape.rms_norm_eps;
  const NormedInput input =
      rms_norm_input(x, input_layernorm, eps, wanted_input(self_attn.input_projections()));
  const at::Tensor mixed = self_attn.forward(input, rotary, context, layer, shape, training);
  const auto [h, normed] =
      add_rms_norm(x, mixed, post_attention_layernorm, eps, wanted_input(mlp.input_projections()));
  return h + mlp.forward(normed, training);
}

}  // namespace llama2zh
