#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/kernels/linear_cross_entropy.h"
#include "llama2zh/model/llama_config.h"
#include "llama2zh/nn/attention_context.h"
#include "llama2zh/nn/decoder_layer.h"

namespace llama2zh {

struct ForwardOptions {
  bool training = false;  // dropout on
  bool activation_checkpointing =
      false;                       // keep only each layer's input, recompute the rest in backward
  double neftune_noise_alpha = 0;  // in training: uniform noise on the embeddings, see below
};

// LLaMA, written once for training and inference. Plain members with Hugging Face's names; weights
// are tensors of any float type, activations are in compute_dtype. forward() and logits() are const
// and thread-safe as long as no weight is written.
class Llama {
 public:
  // A model without weights (all tensors undefined); model/load.h fills it.
  Llama(LlamaConfig config, at::ScalarType compute_dtype, at::Device device);

  LlamaConfig config;
  at::Tensor embed_tokens;  // [V, H]; undefined where the next stands in for it
  std::shared_ptr<const QuantizedMatrix> embed_tokens_quantized;
  std::vector<DecoderLayer> layers;
  at::Tensor norm;  // [H]
  Linear lm_head;   // [V, H]; its weight is embed_tokens itself when tied
  // fp32 masters [n, H] that stand in for the last n rows of the two when only those train, else
  // undefined; one tensor when tied. for_each_weight does not list them.
  at::Tensor embed_tokens_rows, lm_head_rows;

  at::ScalarType compute_dtype() const { return compute_dtype_; }
  at::Device device() const { return device_; }

  // NEFTune (Jain et al. 2023): each element of the embeddings of a sequence of L tokens gets noise
  // from U(-1, 1) alpha / sqrt(L H), out of the device's default generator.
  // ids [T] int64 -> hidden states after the final norm [T, H] in compute_dtype. Ids out of range
  // are a kData error (checked on CPU tensors only when not training). With activation checkpointing
  // `context` must live until backward has run.
  at::Tensor forward(const at::Tensor& ids, AttentionContext& context,
                     const ForwardOptions& options = {}) const;
  // The parts of forward(), for work that goes layer by layer: [T] -> [T, H] in compute_dtype, and
  // x [T, H] through one layer.
  at::Tensor embed(const at::Tensor& ids) const;
  at::Tensor forward_layer(int64_t layer, const at::Tensor& x, AttentionContext& context) const;
  // hidden [N, H] -> [N, V] fp32
  at::Tensor logits(const at::Tensor& hidden) const;
  at::Tensor head_weight() const;  // [V, H]; a quantized one as a copy in compute_dtype
  // Sum of the head's losses over the labelled rows of hidden [T, H]: see linear_cross_entropy.
  at::Tensor loss(const at::Tensor& hidden, const at::Tensor& labels,
                  const LossOptions& options) const;

  // Every stored weight under its Hugging Face name, in the order of a checkpoint
  // ("model.embed_tokens.weight", ..., "lm_head.weight"; not lm_head when tied). LoRA matrices are
  // not among them.
  void for_each_weight(
      const std::function<void(const std::string& name, at::Tensor& weight)>& visit);
  // The seven projections of each layer: "model.layers.0.self_attn.q_proj".
  void for_each_projection(
      const std::function<void(const std::string& name, Linear& linear)>& visit);

 private:
  at::ScalarType compute_dtype_;
  at::Device device_;
  RotaryEmbedding rotary_;
};

}  // namespace llama2zh
