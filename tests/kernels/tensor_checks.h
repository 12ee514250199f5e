#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace llama2zh::testing {

// Largest |a - b|; infinite when shapes differ or a value is not finite.
inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return INFINITY;
  if (a.numel() == 0) return 0;
  const at::Tensor difference = a.detach().to(at::kDouble).sub(b.detach().to(at::kDouble)).abs();
  const double largest = difference.max().item<double>();
  return std::isfinite(largest) ? largest : INFINITY;
}

// Root of the mean squared difference.
inline double rms_difference(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return INFINITY;
  const at::Tensor difference = a.detach().to(at::kDouble).sub(b.detach().to(at::kDouble));
  return std::sqrt(difference.square().mean().item<double>());
}

// max_difference relative to the largest |expected|.
inline double relative_difference(const at::Tensor& got, const at::Tensor& expected) {
  const double scale = expected.detach().to(at::kDouble).abs().max().item<double>();
  const double difference = max_difference(got, expected);
  return difference == 0 ? 0 : difference / scale;
}

}  // namespace llama2zh::testing
