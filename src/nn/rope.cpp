// Tables of the rotary embedding, computed as Hugging Face does (modeling_rope_utils.py): inv_freq in
// fp32 from the power of theta, angles as products in fp32, both halves of a head alike. With
// f[i] = theta^(-2i/d), n = original_max_position_embeddings and s = factor:
//   linear   f / s                                                  (Chen et al. 2023)
//   dynamic  f of theta (s L / n - s + 1)^(d/(d-2)) for lengths L > n (NTK-aware, bloc97 and emozilla)
//   yarn     f / s where a position turns slowly (below beta_slow turns in n positions), f where fast
//            (above beta_fast), a linear ramp in i between; cos and sin times 0.1 ln s + 1
//            (Peng et al. 2023)
//   llama3   f / s for wavelengths above n / low_freq_factor, f below n / high_freq_factor, a ramp in
//            the frequency between (Llama 3.1)
#include "llama2zh/nn/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace llama2zh {
namespace {

// theta^(2i/d), [d/2]
at::Tensor position_frequencies(int64_t head_dim, double theta) {
  const at::Tensor exponent = at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / head_dim;
  return at::pow(theta, exponent);
}

double dynamic_theta(int64_t head_dim, const RopeConfig& config, int64_t length) {
  const auto trained = static_cast<double>(config.original_max_position_embeddings);
  const double stretch =
      config.factor * static_cast<double>(length) / trained - (config.factor - 1);
  const auto d = static_cast<double>(head_dim);
  return config.theta * std::pow(stretch, d / (d - 2));
}

// The (fractional) i whose f[i] turns `turns` times over the trained positions.
double dimension_of(double turns, int64_t head_dim, const RopeConfig& config) {
  const auto trained = static_cast<double>(config.original_max_position_embeddings);
  return static_cast<double>(head_dim) * std::log(trained / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

at::Tensor yarn_frequencies(int64_t head_dim, const RopeConfig& config) {
  double low = dimension_of(config.beta_fast, head_dim, config);
  double high = dimension_of(config.beta_slow, head_dim, config);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      ((at::arange(head_dim / 2, at::kFloat) - low) / (high - low)).clamp_(0, 1);
  const at::Tensor powers = position_frequencies(head_dim, config.theta);
  return (powers * config.factor).reciprocal() * ramp + powers.reciprocal() * (1 - ramp);
}

at::Tensor llama3_frequencies(int64_t head_dim, const RopeConfig& config) {
  const auto trained = static_cast<double>(config.original_max_position_embeddings);
  const double low = config.low_freq_factor, high = config.high_freq_factor;
  const at::Tensor plain = position_frequencies(head_dim, config.theta).reciprocal();
  const at::Tensor length = 2 * std::numbers::pi / plain;
  const at::Tensor smooth = (trained / length - low) / (high - low);
  const at::Tensor between = (1 - smooth) * plain / config.factor + smooth * plain;
  const at::Tensor scaled = at::where(length > trained / low, plain / config.factor, between);
  return at::where(length < trained / high, plain, scaled);
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RopeConfig& config) {
  if (config.attention_factor) return *config.attention_factor;
  if (config.mscale == 0 || config.mscale_all_dim == 0) return yarn_mscale(config.factor, 1);
  return yarn_mscale(config.factor, config.mscale) /
         yarn_mscale(config.factor, config.mscale_all_dim);
}

at::Tensor inverse_frequencies(int64_t head_dim, const RopeConfig& config) {
  if (config.type == "yarn") return yarn_frequencies(head_dim, config);
  if (config.type == "llama3") return llama3_frequencies(head_dim, config);
  const at::Tensor plain = position_frequencies(head_dim, config.theta).reciprocal();
  return config.type == "linear" ? plain / config.factor : plain;
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(int64_t head_dim, const RopeConfig& config, at::Device device)
    : head_dim_(head_dim),
      config_(config),
      inv_freq_(inverse_frequencies(head_dim, config).to(device)) {
  if (config.type == "yarn") attention_scaling_ = yarn_attention_factor(config);
}

at::Tensor RotaryEmbedding::dynamic_frequencies(const at::Tensor& positions) const {
  const at::Tensor on_cpu = positions.to(at::kCPU).contiguous();
  const int64_t* const values = on_cpu.const_data_ptr<int64_t>();
  const int64_t count = on_cpu.size(0);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < count;) {
    int64_t end = begin + 1;
    while (end < count && values[end] == values[end - 1] + 1) ++end;
    const int64_t length = values[end - 1] + 1;
    const at::Tensor frequencies =
        length <= config_.original_max_position_embeddings
            ? inv_freq_
            : position_frequencies(head_dim_, dynamic_theta(head_dim_, config_, length))
                  .reciprocal()
                  .to(inv_freq_.device());
    parts.push_back(frequencies.unsqueeze(0).expand({end - begin, -1}));
    begin = end;
  }
  return at::cat(parts, 0);
}

std::pair<at::Tensor, at::Tensor> RotaryEmbedding::at_positions(const at::Tensor& positions) const {
  const at::Tensor frequencies =
      config_.type == "dynamic" ? dynamic_frequencies(positions) : inv_freq_.unsqueeze(0);
  const at::Tensor angles = positions.to(at::kFloat).unsqueeze(1) * frequencies;
  const at::Tensor both = at::cat({angles, angles}, 1);
  if (attention_scaling_ == 1) return {both.cos(), both.sin()};
  return {both.cos() * attention_scaling_, both.sin() * attention_scaling_};
}

}  // namespace llama2zh
