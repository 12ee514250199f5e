// Blocks of quantized values to floats. Layouts: ggml-common.h of ggml, arithmetic: gguf/quants.py.
// d, m and dmin are fp16; `ql`, `qh` hold low and high bits.
//   Q8_0  32: d, int8[32]                                   d q
//   Q4_0  32: d, 16 bytes                                   d (q - 8)
//   Q4_1  32: d, m, 16 bytes                                d q + m
//   Q5_0  32: d, 32 fifth bits, 16 bytes                    d (q - 16)
//   Q5_1  32: d, m, 32 fifth bits, 16 bytes                 d q + m
//   Q4_K 256: d, dmin, 12 bytes of scales, 128 bytes        (d s) q - dmin m, 8 groups of 32
//   Q5_K 256: d, dmin, 12 bytes of scales, 32, 128 bytes    the same
//   Q6_K 256: ql[128], qh[64], int8 scales[16], d           (d s) (q - 32), 16 groups of 16
// In blocks of 32 a byte's low nibble is element j, its high one element j + 16.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Half.h>

#include <cstring>

#include "formats/gguf_blocks.h"
#include "formats/gguf_types.h"

namespace llama2zh {
namespace {

constexpr int64_t kBlocksADequantizeTask = 1024;

float half_at(const uint8_t* bytes) {
  uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof bits);
  return static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
}

int low(uint8_t byte) { return byte & 15; }
int high(uint8_t byte) { return byte >> 4; }

void dequantize_q8_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

void dequantize_q4_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(block[2 + i]) - 8);
    out[i + 16] = d * static_cast<float>(high(block[2 + i]) - 8);
  }
}

void dequantize_q4_1(const uint8_t* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(block[4 + i])) + m;
    out[i + 16] = d * static_cast<float>(high(block[4 + i])) + m;
  }
}

// Element i of the five-bit codes, whose fifth bits come first.
int five_bits(const uint8_t* codes, int i) {
  const int fifth = codes[i / 8] >> (i % 8) & 1;
  const uint8_t byte = codes[4 + i % 16];
  return (i < 16 ? low(byte) : high(byte)) | fifth << 4;
}

void dequantize_q5_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(five_bits(block + 2, i) - 16);
}

void dequantize_q5_1(const uint8_t* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(five_bits(block + 4, i)) + m;
}

struct GroupScale {
  int scale, minimum;
};

// Eight scales and minima of six bits each in twelve bytes.
GroupScale group_scale(const uint8_t* packed, int group) {
  if (group < 4) return {packed[group] & 63, packed[group + 4] & 63};
  return {(packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4,
          (packed[group + 4] >> 4) | (packed[group] >> 6) << 4};
}

// `fifth` is null for Q4_K. A byte of `codes` holds one value of two groups that follow each other.
void dequantize_with_minima(const uint8_t* block, const uint8_t* fifth, const uint8_t* codes,
                            float* out) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int group = 0; group < 8; ++group) {
    const GroupScale packed = group_scale(block + 4, group);
    const float scale = d * static_cast<float>(packed.scale);
    const float minimum = dmin * static_cast<float>(packed.minimum);
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = codes[group / 2 * 32 + i];
      int code = group % 2 == 0 ? low(byte) : high(byte);
      if (fifth != nullptr) code |= (fifth[i] >> group & 1) << 4;
      out[group * 32 + i] = scale * static_cast<float>(code) - minimum;
    }
  }
}

void dequantize_q4_k(const uint8_t* block, float* out) {
  dequantize_with_minima(block, nullptr, block + 16, out);
}

void dequantize_q5_k(const uint8_t* block, float* out) {
  dequantize_with_minima(block, block + 16, block + 48, out);
}

// Each half of a block holds four runs of 32 values, two in the low nibbles of 64 bytes and two in
// the high ones.
void dequantize_q6_k(const uint8_t* block, float* out) {
  const float d = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, run = i % 128 / 32, at = i % 32;
    const uint8_t byte = block[half * 64 + run % 2 * 32 + at];
    const int top = block[128 + half * 32 + at] >> (2 * run) & 3;
    const int code = (run < 2 ? low(byte) : high(byte)) | top << 4;
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    out[i] = scale * static_cast<float>(code - 32);
  }
}

using BlockReader = void (*)(const uint8_t* block, float* out);

BlockReader block_reader(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0:
      return dequantize_q8_0;
    case GgmlType::kQ4_0:
      return dequantize_q4_0;
    case GgmlType::kQ4_1:
      return dequantize_q4_1;
    case GgmlType::kQ5_0:
      return dequantize_q5_0;
    case GgmlType::kQ5_1:
      return dequantize_q5_1;
    case GgmlType::kQ4_K:
      return dequantize_q4_k;
    case GgmlType::kQ5_K:
      return dequantize_q5_k;
    case GgmlType::kQ6_K:
      return dequantize_q6_k;
    default:
      throw std::logic_error("no quantized type");
  }
}

}  // namespace

void dequantize_ggml(GgmlType type, const std::byte* stored, int64_t blocks, float* out) {
  const BlockReader read = block_reader(type);
  const auto& traits = ggml_traits(type);
  const auto* bytes = reinterpret_cast<const uint8_t*>(stored);
  for (int64_t i = 0; i < blocks; ++i) read(bytes + i * traits.bytes, out + i * traits.block);
}

at::Tensor dequantize_ggml(GgmlType type, const std::byte* stored, at::IntArrayRef shape) {
  auto out = at::empty(shape, at::TensorOptions().dtype(at::kFloat));
  const auto& traits = ggml_traits(type);
  auto* const values = out.mutable_data_ptr<float>();
  at::parallel_for(0, out.numel() / traits.block, kBlocksADequantizeTask,
                   [&](int64_t begin, int64_t end) {
                     dequantize_ggml(type, stored + begin * traits.bytes, end - begin,
                                     values + begin * traits.block);
                   });
  return out;
}

}  // namespace llama2zh
