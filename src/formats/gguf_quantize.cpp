// Floats to blocks of Q8_0, Q4_0 and Q6_K; the layouts are in gguf_dequantize.cpp. The order of the
// arithmetic is that of llama.cpp's reference functions (ggml-quants.c), so that the bits agree.
//   Q8_0: d = max|x| / 127, q = round(x / d), halves away from zero
//   Q4_0: d = x of the largest magnitude / -8, q = trunc(x / d + 8.5), at most 15
//   Q6_K: for each group of 16 the scale that fits best among 19, weighted by x^2; the scales in
//     128ths of the largest; then q = x / (d s), halves to even
// Divisions are products with 1 / d, of the d that is not yet rounded to fp16.
#include <ATen/Parallel.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include "formats/gguf_blocks.h"
#include "formats/gguf_types.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

constexpr int64_t kBlocksAQuantizeTask = 256;
constexpr float kNothing = 1e-15F;  // smaller groups count as zero
constexpr int kGroup = 16;          // values of Q6_K with one scale
constexpr int kGroups = 16;
constexpr int kHalfRange = 32;  // of Q6_K's codes

void put_half(float value, uint8_t* out) {
  const c10::Half half(value);
  std::memcpy(out, &half.x, sizeof half.x);
}

// The value of largest magnitude, the first of equals.
float largest(const float* x, int count) {
  float found = 0;
  for (int i = 0; i < count; ++i) {
    if (std::fabs(x[i]) > std::fabs(found)) found = x[i];
  }
  return found;
}

void quantize_q8_0(const float* x, uint8_t* out) {
  const float d = std::fabs(largest(x, 32)) / 127;
  const float inverse = d != 0 ? 1 / d : 0;
  put_half(d, out);
  for (int i = 0; i < 32; ++i) {
    const float code = std::clamp(std::round(x[i] * inverse), -127.0F, 127.0F);
    out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(code));
  }
}

uint8_t code_q4_0(float x, float inverse) {
  const float scaled = x * inverse + 8.5F;
  return scaled > 0 ? static_cast<uint8_t>(std::min(scaled, 15.0F)) : uint8_t{0};
}

void quantize_q4_0(const float* x, uint8_t* out) {
  const float d = largest(x, 32) / -8;
  const float inverse = d != 0 ? 1 / d : 0;
  put_half(d, out);
  for (int i = 0; i < 16; ++i) {
    const int low = code_q4_0(x[i], inverse), high = code_q4_0(x[i + 16], inverse);
    out[2 + i] = static_cast<uint8_t>(low | high << 4);
  }
}

// x nearest in whole numbers, halves to even, within the codes of Q6_K.
int code_q6_k(float x) {
  return static_cast<int>(std::clamp(std::nearbyint(x), -static_cast<float>(kHalfRange),
                                     static_cast<float>(kHalfRange - 1)));
}

struct GroupFit {
  float inverse = 0, product = 0, square = 0;  // sums of w x q and of w q^2
};

GroupFit fit_group(const float* x, float inverse) {
  GroupFit fit{inverse};
  for (int i = 0; i < kGroup; ++i) {
    const auto code = static_cast<float>(code_q6_k(inverse * x[i]));
    const float weight = x[i] * x[i];
    fit.product += weight * x[i] * code;
    fit.square += weight * code * code;
  }
  return fit;
}

// The scale of a group; codes of 0 to 63.
float quantize_group(const float* x, std::array<int, kGroup>& codes) {
  const float most = largest(x, kGroup);
  codes.fill(0);
  if (std::fabs(most) < kNothing) return 0;
  GroupFit chosen = fit_group(x, -static_cast<float>(kHalfRange) / most);
  float scale = chosen.square != 0 ? chosen.product / chosen.square : 0;
  float best = scale * chosen.product;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float reach = static_cast<float>(kHalfRange) + 0.1F * static_cast<float>(step);
    const GroupFit fit = fit_group(x, -reach / most);
    if (fit.square > 0 && fit.product * fit.product > best * fit.square) {
      chosen = fit;
      scale = fit.product / fit.square;
      best = scale * fit.product;
    }
  }
  for (int i = 0; i < kGroup; ++i) codes[i] = kHalfRange + code_q6_k(chosen.inverse * x[i]);
  return scale;
}

void pack_q6_k(const std::array<std::array<int, kGroup>, kGroups>& codes, uint8_t* out) {
  const auto code = [&](int i) { return codes[i / kGroup][i % kGroup]; };
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const int at = half * 128 + i;
      const std::array<int, 4> q{code(at), code(at + 32), code(at + 64), code(at + 96)};
      out[half * 64 + i] = static_cast<uint8_t>((q[0] & 15) | (q[2] & 15) << 4);
      out[half * 64 + 32 + i] = static_cast<uint8_t>((q[1] & 15) | (q[3] & 15) << 4);
      out[128 + half * 32 + i] =
          static_cast<uint8_t>(q[0] >> 4 | q[1] >> 4 << 2 | q[2] >> 4 << 4 | q[3] >> 4 << 6);
    }
  }
}

void quantize_q6_k(const float* x, uint8_t* out) {
  std::array<std::array<int, kGroup>, kGroups> codes;
  std::array<float, kGroups> scales;
  for (int group = 0; group < kGroups; ++group) {
    scales[group] = quantize_group(x + group * kGroup, codes[group]);
  }
  const float most = largest(scales.data(), kGroups);
  std::memset(out, 0, 210);
  if (std::fabs(most) < kNothing) return;
  const float inverse = -128 / most;
  const c10::Half d(1 / inverse);
  std::memcpy(out + 208, &d.x, sizeof d.x);
  for (int group = 0; group < kGroups; ++group) {
    const float scaled = std::min(127.0F, std::nearbyint(inverse * scales[group]));
    out[192 + group] = static_cast<uint8_t>(static_cast<int8_t>(scaled));
    const float step = static_cast<float>(d) * scaled;
    if (step == 0) continue;
    for (int i = 0; i < kGroup; ++i) {
      codes[group][i] = kHalfRange + code_q6_k(x[group * kGroup + i] / step);
    }
  }
  pack_q6_k(codes, out);
}

using BlockWriter = void (*)(const float* x, uint8_t* out);

BlockWriter block_writer(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0:
      return quantize_q8_0;
    case GgmlType::kQ4_0:
      return quantize_q4_0;
    case GgmlType::kQ6_K:
      return quantize_q6_k;
    default:
      return nullptr;
  }
}

bool all_finite(const float* x, int64_t count) {
  float sum = 0;  // of products with 0: NaN if one is not finite
  for (int64_t i = 0; i < count; ++i) sum += x[i] * 0;
  return sum == 0;
}

}  // namespace

bool ggml_can_quantize(GgmlType type) { return block_writer(type) != nullptr; }

std::vector<std::byte> quantize_ggml(GgmlType type, const at::Tensor& values,
                                     const std::string& where) {
  const auto& traits = ggml_traits(type);
  const BlockWriter write = block_writer(type);
  const int64_t blocks = values.numel() / traits.block;
  std::vector<std::byte> out(static_cast<size_t>(blocks * traits.bytes));
  auto* const bytes = reinterpret_cast<uint8_t*>(out.data());
  const auto* const x = values.const_data_ptr<float>();
  std::atomic<bool> finite{true};
  at::parallel_for(0, blocks, kBlocksAQuantizeTask, [&](int64_t begin, int64_t end) {
    if (!all_finite(x + begin * traits.block, (end - begin) * traits.block)) {
      finite = false;
      return;
    }
    for (int64_t i = begin; i < end; ++i) write(x + i * traits.block, bytes + i * traits.bytes);
  });
  if (!finite) {
    fail_data(where, "it holds values that are not finite, which can't be quantized",
              "the model is damaged: look where it came from");
  }
  return out;
}

}  // namespace llama2zh
