#include "scale_search.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <limits>

#include "llama2zh/base/error.h"

namespace llama2zh {

float best_scale(const float* w, const float* importance, int64_t count, const CodeGrid& grid) {
  constexpr int kSteps = 20;
  float extreme = 0;
  for (int64_t i = 0; i < count; ++i)
    if (std::abs(w[i]) > std::abs(extreme)) extreme = w[i];
  if (extreme == 0) return 0;
  float best = 0, least = std::numeric_limits<float>::infinity();
  const auto consider = [&](float candidate) {
    const float scale = grid.stored(candidate);
    float error = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float difference = w[i] - grid.value(w[i], scale);
      error += importance[i] * difference * difference;
    }
    if (scale != 0 && error < least) {
      least = error;
      best = scale;
    }
  };
  for (int step = 0; step < kSteps; ++step) {
    const float shrunk = extreme * (1 - 0.025f * static_cast<float>(step));
    consider(shrunk / -grid.middle);
    consider(std::abs(shrunk) / (grid.middle - 1));
  }
  return best;
}

QuantizedMatrix quantize_weighted(const at::Tensor& weight, const at::Tensor& importance, int bits,
                                  int64_t group_size) {
  const at::Tensor fp32 = weight.to(at::kFloat).contiguous();
  if (!fp32.isfinite().all().item<bool>()) fail_data("quantize", "a weight is not finite");
  const int64_t out = fp32.size(0), in = fp32.size(1), group = group_size == -1 ? in : group_size;
  const int64_t groups = (in + group - 1) / group;
  const CodeGrid grid(bits, group_size);
  at::Tensor codes = at::empty({out, in}, at::kByte), scales = at::empty({out, groups}, at::kFloat);
  const float* const w = fp32.const_data_ptr<float>();
  const float* const weights = importance.const_data_ptr<float>();
  auto* const code = codes.mutable_data_ptr<uint8_t>();
  auto* const scale = scales.mutable_data_ptr<float>();
  at::parallel_for(0, out, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first * groups; i < last * groups; ++i) {
      const int64_t begin = i % groups * group, at = i / groups * in + begin;
      const int64_t count = std::min(group, in - begin);
      scale[i] = best_scale(w + at, weights + begin, count, grid);
      for (int64_t k = 0; k < count; ++k)
        code[at + k] = static_cast<uint8_t>(grid.code(w[at + k], scale[i]));
    }
  });
  const at::ScalarType stored = group_size == -1 ? at::kFloat : at::kHalf;
  return pack({codes, scales.to(stored), {}}, bits, group_size);
}

}  // namespace llama2zh
