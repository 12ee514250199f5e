#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace llama2zh {

// Rotary embedding and how it is stretched over more positions than the model was trained on, in
// the words of transformers' rope_parameters.
struct RopeConfig {
  double theta = 10000;
  std::string type = "default";  // default | linear | dynamic | yarn | llama3
  double factor = 1;
  // Positions that the unscaled model was trained on: dynamic, yarn, llama3.
  int64_t original_max_position_embeddings = 0;
  double beta_fast = 32, beta_slow = 1;    // yarn
  bool truncate = true;                    // yarn
  std::optional<double> attention_factor;  // yarn: of cos and sin; none: from factor and mscales
  double mscale = 0, mscale_all_dim = 0;   // yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
};

// cos and sin of the rotary embedding, computed for the positions at hand, so that no length is too
// long; in fp32 as transformers' modeling_rope_utils does.
class RotaryEmbedding {
 public:
  RotaryEmbedding(int64_t head_dim, const RopeConfig& config, at::Device device);
  // positions [T] int64 -> {cos, sin}, each [T, d] fp32. With dynamic scaling the frequencies of a
  // run of consecutive positions depend on the last of them, as transformers' do of the last in a
  // batch; keys that were rotated before keep theirs.
  std::pair<at::Tensor, at::Tensor> at_positions(const at::Tensor& positions) const;

 private:
  at::Tensor dynamic_frequencies(const at::Tensor& positions) const;  // [T, d/2]
  int64_t head_dim_;
  RopeConfig config_;
  at::Tensor inv_freq_;  // [d/2]
  double attention_scaling_ = 1;
};

}  // namespace llama2zh
