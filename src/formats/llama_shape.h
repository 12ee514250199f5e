#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// The sizes of a LLaMA-2, as the foreign formats and config.json state them in their own words.
struct LlamaShape {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t vocab = 0;
  int64_t max_positions = 4096;
  double norm_eps = 1e-5;
  double rope_theta = 10000;
  bool tied = false;

  int64_t head_dim() const { return hidden / heads; }
  int64_t kv_rows() const { return kv_heads * head_dim(); }
};

// kFormat unless all sizes are in range (so that products of two of them cannot overflow) and
// divide each other as they must. `where` is named in the error.
void check_llama_shape(const LlamaShape& shape, std::string_view where);

// config.json for the shape, in the spellings of transformers 4 and 5.
ordered_json llama_config_json(const LlamaShape& shape, at::ScalarType dtype);
// The other way; kFormat if a key that a plain LLaMA-2 does not have (rope scaling, biases, a
// head_dim of its own) is set, naming `where`.
LlamaShape llama_shape_of(const ordered_json& config, std::string_view where);

// How one tensor is laid out in Meta's files, whose names llama2.c shares.
struct MetaTensor {
  enum class Parts { kCopies, kRows, kColumns };  // how parts of the model divide it
  std::string meta;                               // "layers.0.attention.wq.weight"
  std::string hf;                                 // "model.layers.0.self_attn.q_proj.weight"
  std::vector<int64_t> shape;                     // of the whole tensor; the same in both
  Parts parts = Parts::kCopies;
  int64_t heads = 0;  // > 0: rows are interleaved for the rotary embedding
};
// All tensors of the model but an absent (tied) head.
std::vector<MetaTensor> meta_tensors(const LlamaShape& shape);

}  // namespace llama2zh
