#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "llama2zh/config/option.h"

namespace llama2zh {

// A rotary scaling that replaces the model's own, to train it for longer contexts; the
// "model.rope_scaling" section. Names are transformers'.
struct RopeScalingConfig {
  std::string rope_type;
  double factor = 1;
  int64_t original_max_position_embeddings = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  std::optional<double> attention_factor;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  static auto options() {
    return std::tuple(
        option("rope_type", &RopeScalingConfig::rope_type,
               "Train with another rotary scaling than config.json's: linear, dynamic (NTK), yarn, "
               "llama3, or default (none); empty: the model's own. The result keeps it.",
               one_of({"", "default", "linear", "dynamic", "yarn", "llama3"})),
        option("factor", &RopeScalingConfig::factor, "Positions become this many times as many.",
               at_least(1)),
        option("original_max_position_embeddings",
               &RopeScalingConfig::original_max_position_embeddings,
               "Positions of the model before any scaling; 0: max_position_embeddings.",
               at_least(0)),
        option("beta_fast", &RopeScalingConfig::beta_fast,
               "yarn: turns above which a dimension is left alone.", greater_than(0)),
        option("beta_slow", &RopeScalingConfig::beta_slow,
               "yarn: turns below which a dimension is interpolated.", greater_than(0)),
        option("attention_factor", &RopeScalingConfig::attention_factor,
               "yarn: factor of cos and sin; null: 0.1 ln(factor) + 1.", greater_than(0)),
        option("low_freq_factor", &RopeScalingConfig::low_freq_factor,
               "llama3: wavelengths above original / this are interpolated.", greater_than(0)),
        option("high_freq_factor", &RopeScalingConfig::high_freq_factor,
               "llama3: wavelengths below original / this are left alone.", greater_than(0)));
  }
};

}  // namespace llama2zh
