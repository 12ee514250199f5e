#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/nn/rope.h"

namespace llama2zh {

// "model.layers.3.self_attn.q_proj.weight" <-> "blk.3.attn_q.weight"; nullopt for names that have no
// counterpart.
std::optional<std::string> gguf_name_of(std::string_view hf_name);
std::optional<std::string> hf_name_of(std::string_view gguf_name);

enum class RotaryRows { kNo, kQuery, kKey };  // rows that llama.cpp keeps in Meta's order
RotaryRows rotary_rows_of(std::string_view hf_name);

inline constexpr const char* kRopeFreqsName = "rope_freqs.weight";
// What llama3 scaling divides each of the head_dim / 2 frequencies by: the tensor rope_freqs.weight.
std::vector<float> llama3_frequency_divisors(const RopeConfig& rope, int64_t head_dim);
// The scaling with those divisors: default if all are 1, linear if they are equal, else llama3;
// nullopt if there is none. Which
// original length they were made with can't be seen, nor does it matter: 8192 is assumed.
std::optional<RopeConfig> llama3_scaling_of(const std::vector<float>& divisors, double theta);

}  // namespace llama2zh
