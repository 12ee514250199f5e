// llama3 scaling in a GGUF file is a tensor of what each frequency is divided by. With wavelength w
// of the frequency, original length L, factor F, low l and high h (transformers'
// _compute_llama3_parameters):
//   w < L / h: 1 | w > L / l: F | between: 1 / ((1 - s) / F + s), s = (L / w - l) / (h - l)
// Back: F is the largest; s of those between is a line over 1 / w, which gives l / L and h / L.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "gguf_names.h"

namespace llama2zh {
namespace {

constexpr double kUsualLength = 8192;
constexpr double kSameDivisor = 1e-4;  // relative
constexpr double kBeforeEnds = 1e-5;   // of F and 1, for what counts as between

double wavelength(double theta, size_t pair, size_t pairs) {
  const double exponent = static_cast<double>(pair) / static_cast<double>(pairs);
  return 2 * std::numbers::pi * std::pow(theta, exponent);
}

bool gives(const RopeConfig& rope, const std::vector<float>& divisors) {
  const auto made = llama3_frequency_divisors(rope, static_cast<int64_t>(2 * divisors.size()));
  for (size_t i = 0; i < divisors.size(); ++i) {
    const auto wanted = static_cast<double>(divisors[i]);
    if (!(std::fabs(static_cast<double>(made[i]) - wanted) <= kSameDivisor * wanted)) return false;
  }
  return true;
}

// Lays the line through the first and the last divisor between 1 and F; false if there are not two.
bool fit_between(const std::vector<float>& divisors, RopeConfig& rope) {
  std::vector<std::pair<double, double>> points;  // 1 / w, s
  for (size_t i = 0; i < divisors.size(); ++i) {
    const auto divisor = static_cast<double>(divisors[i]);
    if (divisor < 1 + kBeforeEnds || divisor > rope.factor * (1 - kBeforeEnds)) continue;
    points.emplace_back(1 / wavelength(rope.theta, i, divisors.size()),
                        (1 / divisor - 1 / rope.factor) / (1 - 1 / rope.factor));
  }
  if (points.size() < 2) return false;
  const auto& first = points.front();
  const auto& last = points.back();
  const double slope = (last.second - first.second) / (last.first - first.first);
  const double range = kUsualLength / slope;
  rope.low_freq_factor = -(first.second - slope * first.first) * range;
  rope.high_freq_factor = rope.low_freq_factor + range;
  return rope.low_freq_factor > 0 && range > 0;
}

}  // namespace

std::vector<float> llama3_frequency_divisors(const RopeConfig& rope, int64_t head_dim) {
  const auto pairs = static_cast<size_t>(head_dim / 2);
  const auto length = static_cast<double>(rope.original_max_position_embeddings);
  std::vector<float> divisors;
  for (size_t i = 0; i < pairs; ++i) {
    const double wave = wavelength(rope.theta, i, pairs);
    double divisor = 1;
    if (wave > length / rope.low_freq_factor) {
      divisor = rope.factor;
    } else if (wave >= length / rope.high_freq_factor) {
      const double smooth =
          (length / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      divisor = 1 / ((1 - smooth) / rope.factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

std::optional<RopeConfig> llama3_scaling_of(const std::vector<float>& divisors, double theta) {
  RopeConfig rope;
  rope.theta = theta;
  rope.factor = static_cast<double>(*std::max_element(divisors.begin(), divisors.end()));
  if (!std::isfinite(rope.factor)) return std::nullopt;
  if (gives(rope, divisors)) {  // with length 0: all frequencies are divided by the factor
    if (rope.factor != 1) rope.type = "linear";
    return rope;
  }
  rope.type = "llama3";
  rope.original_max_position_embeddings = static_cast<int64_t>(kUsualLength);
  if (gives(rope, divisors)) return rope;
  if (fit_between(divisors, rope) && gives(rope, divisors)) return rope;
  return std::nullopt;
}

}  // namespace llama2zh
