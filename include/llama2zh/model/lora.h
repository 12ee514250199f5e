#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/llama.h"

namespace llama2zh {

struct LoraConfig {
  int64_t rank = 8;
  double alpha = 32;
  double dropout = 0.0;
  std::vector<std::string> target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};
  std::vector<std::string> modules_to_save = {"embed_tokens", "lm_head"};
  bool use_rslora = false;
  std::string init = "kaiming";
  static auto options() {
    return std::tuple(
        option("rank", &LoraConfig::rank,
               "Rank r of the adapter matrices A [r, in] and B [out, r].", between(1, 4096)),
        option("alpha", &LoraConfig::alpha, "The update is alpha / rank * B A.", greater_than(0)),
        option("dropout", &LoraConfig::dropout,
               "Dropout on the input of the LoRA branch, in training only.", in_half_open(0, 1)),
        option("target_modules", &LoraConfig::target_modules, "Projections that get an adapter."),
        option("modules_to_save", &LoraConfig::modules_to_save,
               "Modules trained in full beside the adapters: embed_tokens, lm_head."),
        option("use_rslora", &LoraConfig::use_rslora,
               "Scale by alpha / sqrt(rank) instead of alpha / rank."),
        option("init", &LoraConfig::init,
               "Start of A: kaiming (uniform +-1/sqrt(in), PEFT's default) or gaussian (std "
               "1/rank). B starts at zero.",
               one_of({"kaiming", "gaussian"})));
  }
};

// Puts adapters on the targeted projections: A random from `seed`, B zero. Marks A, B and
// modules_to_save as trained (fp32 masters; everything else frozen). A tied model that trains
// embed_tokens or lm_head trains the one shared matrix. kUsage for names that the model lacks.
void inject_lora(Llama& model, const LoraConfig& config, uint64_t seed);

// Puts a saved adapter on the model, for inference (train = false: A, B in compute type, full
// matrices replaced) or to train on (fp32 masters). Shapes are checked against the model first.
void apply_adapter(Llama& model, const PeftAdapter& adapter, bool train);

// The adapter as it stands in the model (fp32 A and B; full matrices in `full_dtype`), on the CPU:
// what write_peft_adapter saves. With `copy` its tensors are its own, else some may be the model's.
PeftAdapter extract_adapter(Llama& model, const LoraConfig& config, const std::string& base_model,
                            at::ScalarType full_dtype, bool copy = false);

// Everything that requires a gradient, under PEFT-like names, in a fixed order:
// "model.layers.0.self_attn.q_proj.lora_A.weight", "model.embed_tokens.weight", ...
struct NamedParameter {
  std::string name;
  at::Tensor tensor;
};
std::vector<NamedParameter> trained_parameters(Llama& model);
// Makes every weight an fp32 master that is trained: full-parameter training.
void train_all_parameters(Llama& model);

}  // namespace llama2zh
