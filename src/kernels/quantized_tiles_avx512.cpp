// int8 products with AVX-512 VNNI. A lane is an output column: one load brings four weights of
// sixteen columns, vpdpbusd multiplies them (unsigned) with four activations of a row that are
// spread over the lanes (signed). Codes stay in registers for all rows of a tile. The accumulator
// of a group starts at -zero * sum(x), which takes the codes' offset out again.
#include "kernels/quantized_tiles.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace llama2zh {
namespace {

constexpr int64_t kAhead = 2048;  // bytes: how far in front of the loads memory is asked for

[[gnu::target("avx512f"), gnu::always_inline]] inline __m512i spread_quad(const int8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof quad);
  return _mm512_set1_epi32(quad);
}

// What a group's sums start from, and what they are scaled by.
[[gnu::target("avx512f,avx512bw,avx512vl"), gnu::always_inline]] inline __m512i start_of_group(
    const PackedWeight& weight, int64_t at, int32_t offset) {
  const __m512i spread = _mm512_set1_epi32(offset);
  if (weight.zeros == nullptr) return spread;
  const __m128i zeros = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight.zeros + at));
  return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(zeros), spread);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 scales_of_group(
    const PackedWeight& weight, int64_t at) {
  if (weight.group_scales == nullptr) return _mm512_set1_ps(1);
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight.group_scales + at)));
}

// kRows rows from `row` on times kBlocks blocks from `block` on.
template <int kBits, int kRows, int kBlocks, bool kFromMemory>
[[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni")]] void tile(const PackedWeight& weight,
                                                                  const Int8Activations& x,
                                                                  int64_t row, int64_t block,
                                                                  const ProductOutput& y) {
  constexpr int64_t kStep = kBits == 8 ? 4 : 8;
  const __m512i nibble = _mm512_set1_epi8(15);
  const int64_t width = weight.padded_in(), groups = weight.groups;
  const uint8_t* codes = weight.codes + block * weight.block_bytes;
  const int8_t* in = x.codes + row * width;
  __m512 sums[kRows][kBlocks];
  for (auto& of_row : sums) {
    for (__m512& sum : of_row) sum = _mm512_setzero_ps();
  }
  for (int64_t g = 0; g < groups; ++g) {
    __m512i whole[kRows][kBlocks];
    int64_t at[kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      at[b] = kBlockColumns * (weight.row_scales ? block + b : (block + b) * groups + g);
      for (int r = 0; r < kRows; ++r) {
        whole[r][b] = start_of_group(weight, at[b], x.offsets[(row + r) * groups + g]);
      }
    }
    for (int64_t k = 0; k < weight.group; k += kStep) {
      __m512i low[kBlocks], high[kBlocks];
      for (int b = 0; b < kBlocks; ++b) {
        const uint8_t* from = codes + b * weight.block_bytes;
        if (kFromMemory) _mm_prefetch(reinterpret_cast<const char*>(from + kAhead), _MM_HINT_T0);
        low[b] = _mm512_loadu_si512(from);
        if (kBits == 4) {
          high[b] = _mm512_and_si512(_mm512_srli_epi16(low[b], 4), nibble);
          low[b] = _mm512_and_si512(low[b], nibble);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        const __m512i quad = spread_quad(in + r * width);
        for (int b = 0; b < kBlocks; ++b) {
          whole[r][b] = _mm512_dpbusd_epi32(whole[r][b], low[b], quad);
        }
      }
      for (int r = 0; kBits == 4 && r < kRows; ++r) {
        const __m512i quad = spread_quad(in + r * width + 4);
        for (int b = 0; b < kBlocks; ++b) {
          whole[r][b] = _mm512_dpbusd_epi32(whole[r][b], high[b], quad);
        }
      }
      in += kStep;
      codes += 64;
    }
    for (int b = 0; b < kBlocks; ++b) {
      const __m512 scales = scales_of_group(weight, at[b]);
      for (int r = 0; r < kRows; ++r) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r][b]), scales);
        const __m512 by = _mm512_set1_ps(x.scales[(row + r) * groups + g]);
        sums[r][b] = _mm512_fmadd_ps(scaled, by, sums[r][b]);
      }
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int r = 0; r < kRows; ++r) {
      __m512 sum = sums[r][b];
      if (weight.row_scales) {
        sum = _mm512_mul_ps(sum, _mm512_loadu_ps(weight.row_scales + (block + b) * kBlockColumns));
      }
      float result[kBlockColumns];
      _mm512_storeu_ps(result, sum);
      store_block(result, row + r, block + b, y);
    }
  }
}

template <int kBits, int kBlocks, bool kFromMemory>
int64_t rows_of_blocks(const PackedWeight& weight, const Int8Activations& x, int64_t row,
                       int64_t block, const ProductOutput& y) {
  const int64_t left = x.rows - row;
  if (left >= 8) return tile<kBits, 8, kBlocks, kFromMemory>(weight, x, row, block, y), 8;
  if (left >= 4) return tile<kBits, 4, kBlocks, kFromMemory>(weight, x, row, block, y), 4;
  if (left >= 2) return tile<kBits, 2, kBlocks, kFromMemory>(weight, x, row, block, y), 2;
  return tile<kBits, 1, kBlocks, kFromMemory>(weight, x, row, block, y), 1;
}

// The first tile of rows brings the codes from memory, the others find them in the cache.
template <int kBits, int kBlocks>
void all_rows(const PackedWeight& weight, const Int8Activations& x, int64_t block,
              const ProductOutput& y) {
  int64_t row = rows_of_blocks<kBits, kBlocks, true>(weight, x, 0, block, y);
  while (row < x.rows) row += rows_of_blocks<kBits, kBlocks, false>(weight, x, row, block, y);
}

template <int kBits>
void all_blocks(const PackedWeight& weight, const Int8Activations& x, int64_t first, int64_t last,
                const ProductOutput& y) {
  // Eight rows of two blocks in nibbles are more than the registers hold (measured: 10 % slower).
  const bool pairs = kBits == 8 || x.rows < 8;
  int64_t block = first;
  for (; pairs && block + 2 <= last; block += 2) all_rows<kBits, 2>(weight, x, block, y);
  for (; block < last; ++block) all_rows<kBits, 1>(weight, x, block, y);
}

}  // namespace

void int8_product_avx512(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                         int64_t last_block, const ProductOutput& y) {
  if (weight.bits == 8) {
    all_blocks<8>(weight, x, first_block, last_block, y);
  } else {
    all_blocks<4>(weight, x, first_block, last_block, y);
  }
}

}  // namespace llama2zh

#endif
