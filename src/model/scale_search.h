#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// The values that a symmetric code can stand for, times a scale.
struct CodeGrid {
  float middle, highest;  // code of zero, largest code
  bool half_scales;       // as they are stored

  CodeGrid(int bits, int64_t group_size)
      : middle(static_cast<float>(1 << (bits - 1))),
        highest(2 * middle - 1),
        half_scales(group_size != -1) {}
  float stored(float scale) const {
    return half_scales ? static_cast<float>(c10::Half(scale)) : scale;
  }
  float code(float w, float scale) const {
    if (scale == 0) return middle;
    return std::clamp(std::nearbyint(w / scale) + middle, 0.0f, highest);
  }
  float value(float w, float scale) const { return (code(w, scale) - middle) * scale; }
};

// The scale of `count` neighbours with the least squared error, weighted by `importance` >= 0. It may
// be negative, so that the one code more on the lower side serves the larger end.
float best_scale(const float* w, const float* importance, int64_t count, const CodeGrid& grid);

// To the nearest, with the scales of best_scale(): weight [out, in] of any float type, importance
// [in] fp32 contiguous. kData where a weight is not finite.
QuantizedMatrix quantize_weighted(const at::Tensor& weight, const at::Tensor& importance, int bits,
                                  int64_t group_size);

}  // namespace llama2zh
