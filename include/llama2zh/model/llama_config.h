#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/model/quantization_config.h"
#include "llama2zh/nn/decoder_layer.h"
#include "llama2zh/nn/rope.h"

namespace llama2zh {

// config.json of a Hugging Face LLaMA, both spellings (rope_theta/rope_scaling/torch_dtype and
// rope_parameters/dtype) read and both written, unknown keys kept.
struct LlamaConfig {
  int64_t vocab_size = 32000;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 32;
  int64_t head_dim = 128;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  std::string dtype = "float32";  // float32 | float16 | bfloat16: of the stored weights
  std::optional<int64_t> bos_token_id = 1;
  std::vector<int64_t> eos_token_id = {2};
  std::optional<int64_t> pad_token_id;
  std::optional<QuantizationConfig> quantization;
  ordered_json original;  // the file as read

  // Throws kFormat before anything is allocated: another architecture, biases, unknown rope types,
  // heads 0, hidden % heads != 0, sizes beyond any real model (vocab 2^31, layers 1e9), rope_theta
  // <= 0. `where` is the file.
  static LlamaConfig parse(const ordered_json& value, std::string_view where);
  static LlamaConfig read(const std::filesystem::path& folder);
  ordered_json to_json() const;
  LayerShape layer_shape() const;
  int64_t parameter_count() const;
  // Positions to use the model with: max_position_embeddings, under dynamic scaling, which leaves that
  // key as it was, times the factor.
  int64_t context_length() const;
};

// Stretches the rotary embedding over more positions: `scaling` without its theta, which stays the
// model's. original_max_position_embeddings 0: the model's max_position_embeddings, which becomes
// that times the factor (dynamic scaling leaves it; type default takes scaling away). kUsage if the
// model is scaled already and the original length is not given.
void set_rope_scaling(LlamaConfig& config, const RopeConfig& scaling);

// An adapter that was trained under another scaling than its base's config.json says holds it in its
// manifest as extra["rope_parameters"]: rope_record() of the config it was trained with.
ordered_json rope_record(const LlamaConfig& config);
// Takes over what the adapter's manifest holds; does nothing if that is nothing.
void adopt_rope(const std::filesystem::path& adapter, LlamaConfig& config);

}  // namespace llama2zh
