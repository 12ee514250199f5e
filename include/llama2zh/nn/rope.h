#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>

namespace llama2zh {

struct RopeConfig {
  double theta = 10000;
  std::string type = "default";  // default | linear
  double factor = 1;             // linear: inv_freq / factor
};

// cos and sin of the rotary embedding, computed for the positions at hand, so that no length is too
// long. inv_freq[i] = theta^(-2i/d) / factor, fp32.
class RotaryEmbedding {
 public:
  RotaryEmbedding(int64_t head_dim, const RopeConfig& config, at::Device device);
  // positions [T] int64 -> {cos, sin}, each [T, d] fp32.
  std::pair<at::Tensor, at::Tensor> at_positions(const at::Tensor& positions) const;

 private:
  at::Tensor inv_freq_;  // [d/2]
};

}  // namespace llama2zh
