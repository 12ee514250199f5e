// Tables of the rotary embedding, computed as Hugging Face does: inv_freq in fp32 from the power of
// theta, angles as products in fp32, both halves of a head alike.
#include "llama2zh/nn/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>

namespace llama2zh {

RotaryEmbedding::RotaryEmbedding(int64_t head_dim, const RopeConfig& config, at::Device device) {
  const at::Tensor exponent = at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / head_dim;
  inv_freq_ = (at::pow(config.theta, exponent).reciprocal() / config.factor).to(device);
}

std::pair<at::Tensor, at::Tensor> RotaryEmbedding::at_positions(const at::Tensor& positions) const {
  const at::Tensor angles = positions.to(at::kFloat).unsqueeze(1) * inv_freq_.unsqueeze(0);
  const at::Tensor both = at::cat({angles, angles}, 1);
  return {both.cos(), both.sin()};
}

}  // namespace llama2zh
