#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace llama2zh {

// Of the mean of `count` numbers by their sum and the sum of their squares, as if they were
// independent; 0 for fewer than two.
inline double error_of_mean(int64_t count, double sum, double squares) {
  if (count < 2) return 0;
  const auto n = static_cast<double>(count);
  const double mean = sum / n;
  return std::sqrt(std::max(0.0, squares / n - mean * mean) / (n - 1));
}

}  // namespace llama2zh
