// Names of tensors: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's
// gguf-py/gguf/tensor_mapping.py; q and k rows are permuted by its convert_hf_to_gguf.py.
#include "gguf_names.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

struct NamePair {
  std::string_view gguf, hf;
};

constexpr std::array<NamePair, 3> kOuterNames = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};
constexpr std::array<NamePair, 9> kLayerNames = {{{"attn_norm", "input_layernorm"},
                                                  {"attn_q", "self_attn.q_proj"},
                                                  {"attn_k", "self_attn.k_proj"},
                                                  {"attn_v", "self_attn.v_proj"},
                                                  {"attn_output", "self_attn.o_proj"},
                                                  {"ffn_norm", "post_attention_layernorm"},
                                                  {"ffn_gate", "mlp.gate_proj"},
                                                  {"ffn_up", "mlp.up_proj"},
                                                  {"ffn_down", "mlp.down_proj"}}};
constexpr std::string_view kWeightSuffix = ".weight";

using Side = std::string_view NamePair::*;

// `from` names with that prefix for layers become `to` names.
std::optional<std::string> rename(std::string_view name, Side from, std::string_view from_layers,
                                  Side to, std::string_view to_layers) {
  if (!name.ends_with(kWeightSuffix)) return std::nullopt;
  const std::string_view module = name.substr(0, name.size() - kWeightSuffix.size());
  for (const NamePair& pair : kOuterNames) {
    if (module == pair.*from) return cat(pair.*to, kWeightSuffix);
  }
  if (!module.starts_with(from_layers)) return std::nullopt;
  const std::string_view rest = module.substr(from_layers.size());
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const auto digits = static_cast<size_t>(end - rest.data());
  const bool canonical = error == std::errc() && layer >= 0 &&
                         rest.substr(0, digits) == std::to_string(layer) && digits < rest.size() &&
                         rest[digits] == '.';
  if (!canonical) return std::nullopt;
  for (const NamePair& pair : kLayerNames) {
    if (rest.substr(digits + 1) == pair.*from) {
      return cat(to_layers, layer, ".", pair.*to, kWeightSuffix);
    }
  }
  return std::nullopt;
}

constexpr std::string_view kGgufLayers = "blk.", kHfLayers = "model.layers.";

}  // namespace

std::optional<std::string> gguf_name_of(std::string_view hf_name) {
  return rename(hf_name, &NamePair::hf, kHfLayers, &NamePair::gguf, kGgufLayers);
}

std::optional<std::string> hf_name_of(std::string_view gguf_name) {
  return rename(gguf_name, &NamePair::gguf, kGgufLayers, &NamePair::hf, kHfLayers);
}

RotaryRows rotary_rows_of(std::string_view hf_name) {
  if (hf_name.ends_with(".self_attn.q_proj.weight")) return RotaryRows::kQuery;
  if (hf_name.ends_with(".self_attn.k_proj.weight")) return RotaryRows::kKey;
  return RotaryRows::kNo;
}

}  // namespace llama2zh
