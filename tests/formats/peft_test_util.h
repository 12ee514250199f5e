#pragma once

#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include <string>
#include <utility>
#include <vector>

#include "formats/foreign_test_util.h"
#include "llama2zh/base/json.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"

namespace llama2zh::foreign_test {

using Named = std::vector<std::pair<std::string, at::Tensor>>;

constexpr const char* kQ = "model.layers.0.self_attn.q_proj";
constexpr const char* kUp = "model.layers.1.mlp.up_proj";

inline ordered_json short_config() {
  return ordered_json::parse(R"({"peft_type": "LORA", "task_type": "CAUSAL_LM",
      "base_model_name_or_path": "base", "r": 4, "lora_alpha": 16, "lora_dropout": 0.1,
      "target_modules": ["q_proj", "up_proj"], "modules_to_save": ["embed_tokens", "lm_head"],
      "bias": "none", "fan_in_fan_out": false, "inference_mode": true})");
}

// What a fresh PEFT 0.21 writes beside the short list: nulls, empties and two inert values.
inline ordered_json long_config() {
  ordered_json config = short_config();
  for (const char* key :
       {"auto_mapping", "revision", "layers_to_transform", "layers_pattern", "megatron_config",
        "trainable_token_indices", "eva_config", "corda_config", "lora_ga_config", "velora_config",
        "alora_invocation_tokens", "layer_replication", "target_parameters", "arrow_config",
        "exclude_modules", "a_key_of_next_year"}) {
    config[key] = nullptr;
  }
  for (const char* key : {"use_dora", "use_rslora", "use_qalora", "lora_bias",
                          "ensure_weight_tying", "a_flag_of_next_year"}) {
    config[key] = false;
  }
  for (const char* key : {"loftq_config", "rank_pattern", "alpha_pattern"}) {
    config[key] = ordered_json::object();
  }
  config["init_lora_weights"] = true;
  config["megatron_core"] = "megatron.core";
  config["qalora_group_size"] = 16;
  config["peft_version"] = "0.21.2";
  return config;
}

class PeftFolder : public TempFolder {
 public:
  explicit PeftFolder(const ordered_json& config = short_config()) { set_config(config); }
  void set_config(const ordered_json& config) {
    write_text(*this / "adapter_config.json", config.dump());
  }
  void set_tensors(const Named& tensors) {
    write_safetensors(*this / "adapter_model.safetensors", tensors);
  }
  PeftAdapter read() const { return read_peft_adapter(path()); }
};

// The tensors of short_config() in the model's names.
struct Values {
  at::Tensor qa = at::randn({4, 8}), qb = at::randn({6, 4});
  at::Tensor ua = at::randn({4, 8}), ub = at::randn({10, 4});
  at::Tensor embed = at::randn({12, 8}), head = at::randn({12, 8});
};

// `tail` follows lora_A and lora_B, `saved` follows embed_tokens and lm_head.
inline Named spelled(const Values& v, const std::string& prefix, const std::string& tail,
                     const std::string& saved) {
  const std::string q = prefix + kQ, up = prefix + kUp;
  return {{q + ".lora_A" + tail, v.qa},
          {q + ".lora_B" + tail, v.qb},
          {up + ".lora_A" + tail, v.ua},
          {up + ".lora_B" + tail, v.ub},
          {prefix + "model.embed_tokens" + saved, v.embed},
          {prefix + "lm_head" + saved, v.head}};
}
constexpr const char* kPrefix = "base_model.model.";
inline Named usual(const Values& v) { return spelled(v, kPrefix, ".weight", ".weight"); }

inline void expect_values(const PeftAdapter& adapter, const Values& v, double scaling = 4) {
  ASSERT_EQ(adapter.lora.size(), 2u);
  ASSERT_EQ(adapter.full.size(), 2u);
  EXPECT_TRUE(at::equal(adapter.lora.at(kQ).a, v.qa));
  EXPECT_TRUE(at::equal(adapter.lora.at(kQ).b, v.qb));
  EXPECT_TRUE(at::equal(adapter.lora.at(kUp).a, v.ua));
  EXPECT_TRUE(at::equal(adapter.lora.at(kUp).b, v.ub));
  EXPECT_DOUBLE_EQ(adapter.lora.at(kQ).scaling, scaling);
  EXPECT_TRUE(at::equal(adapter.full.at("model.embed_tokens.weight"), v.embed));
  EXPECT_TRUE(at::equal(adapter.full.at("lm_head.weight"), v.head));
}

}  // namespace llama2zh::foreign_test
