#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/model/trained_weights.h"

namespace llama2zh {

struct LoraConfig {
  int64_t rank = 8;
  double alpha = 32;
  double dropout = 0.0;
  std::vector<std::string> target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};
  std::vector<std::string> modules_to_save = {"embed_tokens", "lm_head"};
  bool use_rslora = false;
  bool use_dora = false;
  std::vector<std::string> rank_pattern;
  std::vector<std::string> alpha_pattern;
  std::string init = "kaiming";
  static auto options() {
    return std::tuple(
        option("rank", &LoraConfig::rank,
               "Rank r of the adapter matrices A [r, in] and B [out, r].", between(1, 4096)),
        option("alpha", &LoraConfig::alpha, "The update is alpha / rank * B A.", greater_than(0)),
        option("dropout", &LoraConfig::dropout,
               "Dropout on the input of the LoRA branch, in training only.", in_half_open(0, 1)),
        option("target_modules", &LoraConfig::target_modules, "Projections that get an adapter.",
               some_of(LoraConfig().target_modules)),
        option("modules_to_save", &LoraConfig::modules_to_save,
               "Modules trained in full beside the adapters: embed_tokens, lm_head.",
               some_of({"embed_tokens", "lm_head"})),
        option("use_rslora", &LoraConfig::use_rslora,
               "Scale by alpha / sqrt(rank) instead of alpha / rank."),
        option("use_dora", &LoraConfig::use_dora,
               "DoRA: train the length of each row of W + update apart from its direction. Slower; "
               "helps most at low ranks."),
        option(
            "rank_pattern", &LoraConfig::rank_pattern,
            "Other ranks for some modules, as PATTERN=RANK; the pattern is a regex on the end of "
            "a module's path (\"down_proj=64\", \"layers.0.self_attn.q_proj=4\"), the first that "
            "matches counts."),
        option("alpha_pattern", &LoraConfig::alpha_pattern,
               "Other alphas in the same way, as PATTERN=ALPHA."),
        option("init", &LoraConfig::init,
               "Start of A: kaiming (uniform +-1/sqrt(in), PEFT's default) or gaussian (std "
               "1/rank). B starts at zero.",
               one_of({"kaiming", "gaussian"})));
  }
};

// The same as PEFT writes it, patterns parsed. kUsage for a pattern without "=NUMBER", out of range
// or no regex.
PeftConfig to_peft_config(const LoraConfig& config);
// The patterns of a PeftConfig in the form above.
std::vector<std::string> rank_pattern_texts(const PeftConfig& config);
std::vector<std::string> alpha_pattern_texts(const PeftConfig& config);

// Puts adapters on the targeted projections: A random from `seed`, B zero, DoRA's magnitudes the
// lengths of the base's rows. Marks A, B, magnitudes and modules_to_save as trained (fp32 masters;
// everything else frozen), as far as the scope leaves them. A tied model that trains embed_tokens or
// lm_head trains the one shared matrix. kUsage for names that the model lacks.
void inject_lora(Llama& model, const LoraConfig& config, uint64_t seed,
                 const TrainScope& scope = {});

// Puts a saved adapter on the model, for inference (train = false: A, B in compute type, full
// matrices replaced) or to train on (fp32 masters). Shapes are checked against the model first.
// kUsage if a projection with a DoRA adapter would get a second one.
void apply_adapter(Llama& model, const PeftAdapter& adapter, bool train,
                   const TrainScope& scope = {});

// The adapter as it stands in the model (fp32 A, B and magnitudes; full matrices in `full_dtype`), on
// the CPU: what write_peft_adapter saves. Full matrices are those that train or that
// config.modules_to_save names. With `copy` its tensors are its own, else some may be the model's.
PeftAdapter extract_adapter(Llama& model, const LoraConfig& config, const std::string& base_model,
                            at::ScalarType full_dtype, bool copy = false);

}  // namespace llama2zh
