#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// adapter_config.json of PEFT, as far as its LoRA changes the mathematics. Keys that do and that we
// do not support (layer_replication, lora_bias, ...) are refused when set; the rest is ignored.
// `module` below is a module's path in the model: "model.layers.0.self_attn.q_proj".
struct PeftConfig {
  std::string base_model;  // base_model_name_or_path
  int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool use_rslora = false;
  bool use_dora = false;
  bool fan_in_fan_out = false;  // carried only: PEFT itself takes it as false on a Linear
  // Names ("q_proj"), or one regex when target_is_regex; "all-linear" is expanded.
  std::vector<std::string> target_modules;
  bool target_is_regex = false;
  std::vector<std::string> modules_to_save;  // "embed_tokens", "lm_head"
  // Regex on the path's end -> value; the first that matches counts, so the order matters.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  // exclude_modules, layers_to_transform, layers_pattern as the file has them, written back the
  // same way. Which modules have LoRA is told by the adapter's tensors.
  ordered_json selection;

  double scaling() const;  // alpha / r, or alpha / sqrt(r)
  // The same with the patterns applied; kFormat if a pattern is not a regex we can read.
  int64_t rank_of(std::string_view module) const;
  double scaling_of(std::string_view module) const;
  bool targets(std::string_view module) const;  // target_modules names it
};
// kFormat naming the key: wrong types, values out of range, keys that change the mathematics.
PeftConfig read_peft_config(const std::filesystem::path& folder);

// One adapter folder. Names are normalised to the model's own:
// lora["model.layers.0.self_attn.q_proj"] = {A [r,in], B [out,r], DoRA's magnitude [out]},
// full["model.embed_tokens.weight"], full["lm_head.weight"]; all of PEFT's spellings (".default.",
// ".modules_to_save.", base_model.model. prefix, .bin) are accepted.
struct LoraPair {
  at::Tensor a;  // [r, in]
  at::Tensor b;  // [out, r]
  double scaling = 1;
  at::Tensor magnitude = {};  // [out] with use_dora, else undefined
};
struct PeftAdapter {
  PeftConfig config;
  std::map<std::string, LoraPair> lora;
  std::map<std::string, at::Tensor> full;
};
// Tensors are on the CPU and may be memory-mapped (read-only). kFormat for a LoRA A without its B, a
// DoRA adapter without magnitudes,
// ranks that disagree with the config, empty tensors (the 443-byte adapters that broken savers
// leave), no tensors at all, tensors that the config does not account for.
PeftAdapter read_peft_adapter(const std::filesystem::path& folder);
bool is_peft_folder(const std::filesystem::path& folder);

// Writes adapter_config.json (the short list that every PEFT release reads),
// adapter_model.safetensors and README.md into an existing folder, then reads the files back and
// compares. A and B keep their dtype (PEFT itself stores float32). kData if there are no tensors,
// if one is empty or not finite, if the config would give a pair another rank or scaling than it
// has or does not name a module, or if `trained` and every lora_B is zero (an adapter of full
// matrices alone has none).
void write_peft_adapter(const std::filesystem::path& folder, const PeftAdapter& adapter,
                        bool trained);

}  // namespace llama2zh
