// The portable inner loop of int8 products, and which of them runs.
#include "kernels/quantized_tiles.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

using Sums = int32_t[kBlockColumns];

// sums += codes [16][4] (the low or high nibbles where 4 bits are taken) times x[0..4).
void add_quad(const uint8_t* codes, int shift, int mask, const int8_t* x, Sums& sums) {
  for (int64_t column = 0; column < kBlockColumns; ++column) {
    int32_t sum = 0;
    for (int64_t i = 0; i < 4; ++i) {
      sum += ((codes[4 * column + i] >> shift) & mask) * x[i];
    }
    sums[column] += sum;
  }
}

void add_group(const PackedWeight& weight, const uint8_t* codes, const int8_t* x, Sums& sums) {
  if (weight.bits == 8) {
    for (int64_t k = 0; k < weight.group; k += 4) add_quad(codes + 16 * k, 0, 255, x + k, sums);
    return;
  }
  for (int64_t k = 0; k < weight.group; k += 8) {
    add_quad(codes + 8 * k, 0, 15, x + k, sums);
    add_quad(codes + 8 * k, 4, 15, x + k + 4, sums);
  }
}

void product_of_block(const PackedWeight& weight, const Int8Activations& x, int64_t row,
                      int64_t block, float* sums) {
  const int64_t group_bytes = weight.block_bytes / weight.groups;
  const uint8_t* codes = weight.codes + block * weight.block_bytes;
  for (int64_t g = 0; g < weight.groups; ++g) {
    const int64_t at = weight.row_scales ? block : block * weight.groups + g;
    const int32_t offset = x.offsets[row * weight.groups + g];
    Sums whole;
    for (int64_t column = 0; column < kBlockColumns; ++column) {
      whole[column] = weight.zeros ? weight.zeros[at * kBlockColumns + column] * offset : offset;
    }
    const int8_t* in = x.codes + row * x.stride + g * weight.group;
    add_group(weight, codes + g * group_bytes, in, whole);
    const float scale = x.scales[row * weight.groups + g];
    for (int64_t column = 0; column < kBlockColumns; ++column) {
      const float by = weight.row_scales
                           ? 1.0f
                           : static_cast<float>(weight.group_scales[at * kBlockColumns + column]);
      sums[column] = std::fma(static_cast<float>(whole[column]) * by, scale, sums[column]);
    }
  }
  if (weight.row_scales == nullptr) return;
  for (int64_t column = 0; column < kBlockColumns; ++column) {
    sums[column] *= weight.row_scales[block * kBlockColumns + column];
  }
}

}  // namespace

void store_block(const float* sums, int64_t row, int64_t block, const ProductOutput& y) {
  const int64_t begin = block * kBlockColumns, at = row * y.out + begin;
  const int64_t count = std::min(kBlockColumns, y.out - begin);
  if (y.bfloat16) {
    lanes::store_up_to(static_cast<c10::BFloat16*>(y.y) + at, lanes::load(sums), count);
  } else {
    std::memcpy(static_cast<float*>(y.y) + at, sums, static_cast<size_t>(count) * sizeof(float));
  }
}

void int8_product_portable(const PackedWeight& weight, const Int8Activations& x,
                           int64_t first_block, int64_t last_block, const ProductOutput& y) {
  for (int64_t block = first_block; block < last_block; ++block) {
    for (int64_t row = 0; row < x.rows; ++row) {
      float sums[kBlockColumns] = {};
      product_of_block(weight, x, row, block, sums);
      store_block(sums, row, block, y);
    }
  }
}

Int8Product int8_product_for(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 && has_int8_tiles()) return int8_product_amx;
  if (isa == Isa::kAvx512 && __builtin_cpu_supports("avx512vnni")) return int8_product_avx512;
  if (isa != Isa::kPortable) return int8_product_avx2;
#else
  (void)isa;
#endif
  return int8_product_portable;
}

}  // namespace llama2zh
