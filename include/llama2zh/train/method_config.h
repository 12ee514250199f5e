#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"

namespace llama2zh {

// What trains, how fast, and on which loss: part of the "train" section (docs/methods.md says when to
// use what). Names are Hugging Face's.
struct MethodConfig {
  std::string optim = "adamw";
  double loraplus_lr_ratio = 1;
  std::optional<double> embedding_learning_rate;
  int64_t first_trained_row = 0;
  std::vector<std::string> freeze;
  double neftune_noise_alpha = 0;
  double label_smoothing_factor = 0;
  double z_loss = 0;
  int64_t num_decay_steps = 0;
  double decay_ratio = 0.1;
  std::string decay_type = "cosine";
  std::string warmup_type = "linear";
  static auto options() {
    return std::tuple(
        option("optim", &MethodConfig::optim,
               "adamw: moments in float32. adamw_8bit: in 8 bits, in blocks of 256 with a scale "
               "each (weights below 4096 elements stay float32): a quarter of the memory.",
               one_of({"adamw", "adamw_8bit"})),
        option("loraplus_lr_ratio", &MethodConfig::loraplus_lr_ratio,
               "LoRA+: B (and DoRA's magnitudes) learn with this multiple of the learning rate; "
               "its authors use 16.",
               at_least(1)),
        option("embedding_learning_rate", &MethodConfig::embedding_learning_rate,
               "Peak learning rate of embed_tokens and lm_head; null: learning_rate.",
               greater_than(0)),
        option(
            "first_trained_row", &MethodConfig::first_trained_row,
            "Of embed_tokens and lm_head only the rows from this one on train (32000: those that "
            "extend LLaMA's vocabulary), with memory for these alone; 0: all rows.",
            at_least(0)),
        option("freeze", &MethodConfig::freeze,
               "Parameters that do not train: regexes on whole names, as "
               "\"model.layers.[0-9].*\" or \".*lora_A.weight\"."),
        option("neftune_noise_alpha", &MethodConfig::neftune_noise_alpha,
               "NEFTune: uniform noise of alpha / sqrt(sequence length x hidden size) on the "
               "embeddings, in training only; 5 to 15 for fine-tuning, 0: none.",
               at_least(0)),
        option(
            "label_smoothing_factor", &MethodConfig::label_smoothing_factor,
            "Share of the target that is spread over the whole vocabulary. Evaluation is without "
            "it.",
            in_half_open(0, 1)),
        option("z_loss", &MethodConfig::z_loss,
               "Adds z_loss x (log of the softmax's normaliser)^2 to a token's loss; 1e-4 keeps "
               "logits from drifting, 0: none. Evaluation is without it.",
               at_least(0)),
        option("num_decay_steps", &MethodConfig::num_decay_steps,
               "warmup_stable_decay: steps of the decay at the end; 0: decay_ratio decides.",
               at_least(0)),
        option("decay_ratio", &MethodConfig::decay_ratio,
               "The same as a share of all steps, rounded up.", between(0, 1)),
        option("decay_type", &MethodConfig::decay_type, "warmup_stable_decay: form of the decay.",
               one_of({"cosine", "linear", "1-sqrt"})),
        option("warmup_type", &MethodConfig::warmup_type,
               "warmup_stable_decay: form of the warmup, which starts at min_lr_ratio.",
               one_of({"linear", "cosine", "1-sqrt"})));
  }
};

}  // namespace llama2zh
