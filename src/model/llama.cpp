// LLaMA (Touvron et al. 2023): embedding, decoder layers, a final norm, the head. See nn/ for the
// parts.
#include "llama2zh/model/llama.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/repeat_interleave.h>

#include <array>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/kernels/product.h"
#include "llama2zh/kernels/rms_norm.h"
#include "llama2zh/nn/checkpoint.h"
#include "llama2zh/nn/row_adapters.h"

namespace llama2zh {
namespace {

void check_ids(const at::Tensor& ids, int64_t vocab_size) {
  TORCH_CHECK(ids.dim() == 1, "Llama::forward: ids must have one dimension");
  if (ids.numel() == 0) fail_data("input", "there are no tokens");
  if (!ids.is_cpu()) return;
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  if (low >= 0 && high < vocab_size) return;
  fail_data(
      "input",
      cat("token id ", low < 0 ? low : high, " is outside the model's vocabulary of ", vocab_size),
      "the tokenizer does not belong to this model");
}

// The seven projections of a layer, const or not, with their names.
template <typename Layer>
auto projections(Layer& layer) {
  auto& attention = layer.self_attn;
  auto& mlp = layer.mlp;
  return std::array{std::pair{"self_attn.q_proj", &attention.q_proj},
                    std::pair{"self_attn.k_proj", &attention.k_proj},
                    std::pair{"self_attn.v_proj", &attention.v_proj},
                    std::pair{"self_attn.o_proj", &attention.o_proj},
                    std::pair{"mlp.gate_proj", &mlp.gate_proj},
                    std::pair{"mlp.up_proj", &mlp.up_proj},
                    std::pair{"mlp.down_proj", &mlp.down_proj}};
}

std::vector<at::Tensor> layer_parameters(const DecoderLayer& layer) {
  std::vector<at::Tensor> out{layer.input_layernorm, layer.post_attention_layernorm};
  for (const auto& [name, linear] : projections(layer)) {
    out.push_back(linear->weight);
    if (!linear->lora) continue;
    out.insert(out.end(), {linear->lora->a, linear->lora->b});
    if (linear->lora->magnitude.defined()) out.push_back(linear->lora->magnitude);
  }
  return out;
}

// The length of each token's own sequence, [T] int64; positions restart at 0 with every sequence.
at::Tensor sequence_lengths(const at::Tensor& positions) {
  const at::Tensor starts = positions.eq(0).nonzero().squeeze(1);
  const at::Tensor end = at::full({1}, positions.size(0), positions.options());
  const at::Tensor lengths = at::cat({starts.narrow(0, 1, starts.size(0) - 1), end}) - starts;
  return at::repeat_interleave(lengths, lengths);
}

at::Tensor neftune_noise(const at::Tensor& x, const at::Tensor& positions, double alpha) {
  const at::Tensor elements = sequence_lengths(positions).to(at::kFloat) * x.size(1);
  const at::Tensor bound = (alpha / elements.sqrt()).unsqueeze(1);  // [T, 1]
  const at::Tensor noise = at::rand(x.sizes(), x.options().dtype(at::kFloat)).mul_(2).sub_(1);
  return (noise * bound).to(x.scalar_type());
}

// Rows whose adapter has an embedding of its own.
at::Tensor with_adapter_embeddings(at::Tensor x, const at::Tensor& ids) {
  for (const AdapterGroup& group : RowAdapters::active()) {
    const at::Tensor& own = group.adapter->embed_tokens;
    if (!own.defined()) continue;
    const at::Tensor rows = at::embedding(own, ids.index_select(0, group.rows));
    x = x.index_copy(0, group.rows, rows.to(x.scalar_type()));
  }
  return x;
}

// Rows whose adapter has a head of its own.
at::Tensor with_adapter_heads(at::Tensor logits, const at::Tensor& input) {
  for (const AdapterGroup& group : RowAdapters::active()) {
    const at::Tensor& own = group.adapter->lm_head;
    if (!own.defined()) continue;
    const at::Tensor rows = linear_product(input.index_select(0, group.rows), own);
    logits = logits.index_copy(0, group.rows, rows.to(at::kFloat));
  }
  return logits;
}

bool has_dropout(const DecoderLayer& layer) {
  for (const auto& [name, linear] : projections(layer)) {
    if (linear->lora && linear->lora->dropout > 0) return true;
  }
  return false;
}

// The body holds copies of the layer (tensors are shared, not copied) and of the tables, so that
// only the context has to outlive the forward pass.
at::Tensor checkpointed_layer(const DecoderLayer& layer, const at::Tensor& x,
                              const RotaryTables& rotary, AttentionContext& context, int64_t index,
                              const LayerShape& shape, bool training) {
  const auto body = [layer, rotary, &context, index, shape, training](const at::Tensor& input) {
    return layer.forward(input, rotary, context, index, shape, training);
  };
  return checkpoint(body, x, layer_parameters(layer), training && has_dropout(layer));
}

}  // namespace

Llama::Llama(LlamaConfig model_config, at::ScalarType compute_dtype, at::Device device)
    : config(std::move(model_config)),
      layers(static_cast<size_t>(config.num_hidden_layers)),
      compute_dtype_(compute_dtype),
      device_(device),
      rotary_(config.head_dim, config.rope, device) {}

at::Tensor Llama::forward(const at::Tensor& ids, AttentionContext& context,
                          const ForwardOptions& options) const {
  if (!options.training) check_ids(ids, config.vocab_size);
  const auto [cos, sin] = rotary_.at_positions(context.positions());
  const RotaryTables rotary{cos, sin};
  const LayerShape shape = config.layer_shape();
  at::Tensor x = embed(ids);  // [T, H]
  if (options.training && options.neftune_noise_alpha > 0) {
    x = x + neftune_noise(x, context.positions(), options.neftune_noise_alpha);
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    x = options.activation_checkpointing
            ? checkpointed_layer(layers[i], x, rotary, context, index, shape, options.training)
            : layers[i].forward(x, rotary, context, index, shape, options.training);
  }
  return rms_norm(x, norm, config.rms_norm_eps);
}

at::Tensor Llama::forward_layer(int64_t layer, const at::Tensor& x,
                                AttentionContext& context) const {
  const auto [cos, sin] = rotary_.at_positions(context.positions());
  return layers[static_cast<size_t>(layer)].forward(x, {cos, sin}, context, layer,
                                                    config.layer_shape(), /*training=*/false);
}

at::Tensor Llama::embed(const at::Tensor& ids) const {
  if (embed_tokens_quantized)
    return with_adapter_embeddings(dequantize_rows(*embed_tokens_quantized, ids, compute_dtype_),
                                   ids);
  at::Tensor x = at::embedding(embed_tokens, ids).to(compute_dtype_);
  if (!embed_tokens_rows.defined()) return with_adapter_embeddings(x, ids);
  const int64_t first = embed_tokens.size(0) - embed_tokens_rows.size(0);
  const at::Tensor places = ids.ge(first).nonzero().squeeze(1);
  const at::Tensor rows = at::embedding(embed_tokens_rows, ids.index_select(0, places) - first);
  return x.index_copy(0, places, rows.to(compute_dtype_));
}

at::Tensor Llama::logits(const at::Tensor& hidden) const {
  const at::Tensor input = hidden.to(product_type(hidden));
  if (!lm_head_rows.defined())
    return with_adapter_heads(lm_head.base_product(input).to(at::kFloat), input);
  const at::Tensor& weight = lm_head.weight;
  const at::Tensor frozen = weight.narrow(0, 0, weight.size(0) - lm_head_rows.size(0));
  return at::cat({linear_product(input, frozen), linear_product(input, lm_head_rows)}, -1)
      .to(at::kFloat);
}

at::Tensor Llama::head_weight() const {
  if (!lm_head.quantized) return lm_head.weight;
  return dequantize(*lm_head.quantized, 0, config.vocab_size, compute_dtype_).to(device_);
}

at::Tensor Llama::loss(const at::Tensor& hidden, const at::Tensor& labels,
                       const LossOptions& options) const {
  return linear_cross_entropy(hidden, head_weight(), labels, options, lm_head_rows);
}

void Llama::for_each_weight(
    const std::function<void(const std::string& name, at::Tensor& weight)>& visit) {
  visit("model.embed_tokens.weight", embed_tokens);
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string prefix = cat("model.layers.", i, ".");
    for (const auto& [name, linear] : projections(layers[i])) {
      visit(prefix + name + ".weight", linear->weight);
    }
    visit(prefix + "input_layernorm.weight", layers[i].input_layernorm);
    visit(prefix + "post_attention_layernorm.weight", layers[i].post_attention_layernorm);
  }
  visit("model.norm.weight", norm);
  if (!config.tie_word_embeddings) visit("lm_head.weight", lm_head.weight);
}

void Llama::for_each_projection(
    const std::function<void(const std::string& name, Linear& linear)>& visit) {
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const auto& [name, linear] : projections(layers[i])) {
      visit(cat("model.layers.", i, ".", name), *linear);
    }
  }
}

}  // namespace llama2zh
