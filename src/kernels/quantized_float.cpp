// Products of fp32 activations with weights that are decoded on the way: w = scale * (code - zero)
// in fp32, and for each output a chain of multiply-adds in order of k (fused where the processor
// has them).
#include "kernels/quantized_float.h"

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

using Integers = int32_t __attribute__((vector_size(64)));
using Bytes16 = uint8_t __attribute__((vector_size(16)));

lanes::Floats floats_of(const c10::Half* p) {
  lanes::Floats result;
  for (int64_t i = 0; i < kBlockColumns; ++i) result[i] = static_cast<float>(p[i]);
  return result;
}

struct ColumnScale {
  lanes::Floats scale;
  Integers zero;
};

ColumnScale scale_of(const PackedWeight& weight, int64_t block, int64_t g) {
  const int64_t at = kBlockColumns * (weight.row_scales ? block : block * weight.groups + g);
  ColumnScale result;
  result.scale =
      weight.row_scales ? lanes::load(weight.row_scales + at) : floats_of(weight.group_scales + at);
  result.zero = Integers{} + weight.middle();
  if (weight.zeros) {
    Bytes16 bytes;
    std::memcpy(&bytes, weight.zeros + at, sizeof bytes);
    result.zero = __builtin_convertvector(bytes, Integers);
  }
  return result;
}

// kRows rows times kBlocks blocks.
template <int kBits, int kRows, int kBlocks>
void float_tile(const PackedWeight& weight, const float* x, int64_t row, int64_t block,
                const ProductOutput& y) {
  const int64_t width = weight.padded_in();
  const uint8_t* codes = weight.codes + block * weight.block_bytes;
  const float* in = x + row * width;
  lanes::Floats sums[kRows][kBlocks] = {};
  for (int64_t g = 0; g < weight.groups; ++g) {
    ColumnScale scales[kBlocks];
    for (int b = 0; b < kBlocks; ++b) scales[b] = scale_of(weight, block + b, g);
    for (int64_t k = 0; k < weight.group; k += 4 * 8 / kBits) {
      Integers words[kBlocks];
      for (int b = 0; b < kBlocks; ++b) {
        std::memcpy(&words[b], codes + b * weight.block_bytes, sizeof words[b]);
      }
      for (int i = 0; i < 32 / kBits; ++i) {
        // 4 bits: low nibbles of the four bytes, then the high ones.
        const int shift = kBits == 8 ? 8 * i : 8 * (i % 4) + 4 * (i / 4);
        for (int b = 0; b < kBlocks; ++b) {
          const Integers code = (words[b] >> shift) & ((1 << kBits) - 1);
          const lanes::Floats w =
              __builtin_convertvector(code - scales[b].zero, lanes::Floats) * scales[b].scale;
          for (int r = 0; r < kRows; ++r) sums[r][b] += w * in[r * width + i];
        }
      }
      in += 32 / kBits;
      codes += 64;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int b = 0; b < kBlocks; ++b) {
      float result[kBlockColumns];
      lanes::store(result, sums[r][b]);
      store_block(result, row + r, block + b, y);
    }
  }
}

// Rows in eights and fours, block by block; single ones over kSide blocks, which are chains enough
// to hide an addition's latency.
template <int kBits, int kBlocks>
void float_rows(const PackedWeight& weight, const float* x, int64_t rows, int64_t block,
                const ProductOutput& y) {
  int64_t row = 0;
  for (; row + 8 <= rows; row += 8) {
    for (int b = 0; b < kBlocks; ++b) float_tile<kBits, 8, 1>(weight, x, row, block + b, y);
  }
  for (; row + 4 <= rows; row += 4) {
    for (int b = 0; b < kBlocks; ++b) float_tile<kBits, 4, 1>(weight, x, row, block + b, y);
  }
  for (; row < rows; ++row) float_tile<kBits, 1, kBlocks>(weight, x, row, block, y);
}

template <int kBits>
void float_blocks(const PackedWeight& weight, const float* x, int64_t rows, int64_t first,
                  int64_t last, const ProductOutput& y) {
  constexpr int kSide = 4;
  int64_t block = first;
  for (; block + kSide <= last; block += kSide) float_rows<kBits, kSide>(weight, x, rows, block, y);
  for (; block < last; ++block) float_rows<kBits, 1>(weight, x, rows, block, y);
}

}  // namespace

void float_product(const PackedWeight& weight, const float* x, int64_t rows, int64_t first_block,
                   int64_t last_block, const ProductOutput& y) {
  run_with_isa([&] {
    if (weight.bits == 8) {
      float_blocks<8>(weight, x, rows, first_block, last_block, y);
    } else {
      float_blocks<4>(weight, x, rows, first_block, last_block, y);
    }
  });
}

}  // namespace llama2zh
