#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// How another tool has stored quantized weights in a Hugging Face folder: see
// src/model/packed_checkpoint.cpp.
struct PackedLayout {
  enum class Kind { kGptq, kAwq };
  Kind kind = Kind::kGptq;
  int64_t group_size = 128;    // as stored; -1: a whole row
  bool zeros_less_one = true;  // gptq: stored zeros are one less than they mean
  bool act_order = false;      // gptq: groups make no sense without g_idx
  ordered_json original;       // quantization_config as read
};

// How the matrices of a model folder are quantized: "quantization_config" of its config.json, with
// quant_method "llama2zh", or "gptq" or "awq" of other tools, whose weights are given in the kernels'
// layout when they are loaded. The seven projections of every layer always are; each such module stores
// NAME.codes and NAME.scales in the layout of kernels/quantized_matrix.h instead of NAME.weight, so
// that a file is mapped and used as it is.
struct QuantizationConfig {
  int64_t bits = 8;            // 8 | 4
  int64_t group_size = -1;     // 32 | 64 | 128; -1: one scale a row
  std::string method = "rtn";  // how codes were chosen: rtn | gptq | awq
  bool lm_head = false;        // with tied embeddings the same as embed_tokens
  bool embed_tokens = false;
  std::string activations = "int8";  // what products do with their input: int8 | float
  bool zeros = false;                // matrices have zero points: NAME.zeros
  bool columns = false;              // and columns in another order: NAME.columns
  std::optional<PackedLayout> packed;

  // kFormat naming `where` and the key.
  static QuantizationConfig parse(const ordered_json& value, std::string_view where);
  ordered_json to_json() const;
};

// Whether this config quantizes the weight of that name ("model.layers.0.mlp.up_proj.weight").
bool is_quantized(const QuantizationConfig& config, std::string_view weight_name, bool tied);

// What is stored for a quantized weight [out, in]: NAME.codes, NAME.scales, and NAME.zeros and
// NAME.columns where the config has them.
std::vector<TensorInfo> quantized_tensors(const QuantizationConfig& config,
                                          const TensorInfo& weight);

// The matrix of that weight out of a file, mapped where the file can be; kFormat where its tensors
// do not fit the shape.
QuantizedMatrix load_quantized(const TensorSource& source, const QuantizationConfig& config,
                               const TensorInfo& weight);

}  // namespace llama2zh
