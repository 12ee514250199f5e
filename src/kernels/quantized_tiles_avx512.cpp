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

// sums += codes * quad, four products a lane. As an instruction and not as the intrinsic, for whose
// sums GCC 12 takes a second register in loops: with sixteen of them it runs out (measured: 15 %).
[[gnu::target("avx512f,avx512vnni"), gnu::always_inline]] inline void add_dots(__m512i& sums,
                                                                               __m512i codes,
                                                                               __m512i quad) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(codes), "v"(quad));
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
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight.group_scales + at)));
}

// Sixteen results, as store_block() rounds and stores them.
[[gnu::target("avx512f,avx512bw,avx512vl"), gnu::always_inline]] inline void store_sums(
    __m512 sums, int64_t row, int64_t block, const ProductOutput& y) {
  const int64_t begin = block * kBlockColumns, at = row * y.out + begin;
  if (begin + kBlockColumns > y.out) {
    float result[kBlockColumns];
    _mm512_storeu_ps(result, sums);
    return store_block(result, row, block, y);
  }
  if (!y.bfloat16) return _mm512_storeu_ps(static_cast<float*>(y.y) + at, sums);
  const __m512i bits = _mm512_castps_si512(sums);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(sums, sums, _CMP_UNORD_Q);
  rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC00000));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(static_cast<c10::BFloat16*>(y.y) + at),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// kRows rows from `row` on times kBlocks blocks from `block` on.
template <int kBits, bool kRowScales, int kRows, int kBlocks, bool kFromMemory>
[[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni")]] void tile(const PackedWeight& weight,
                                                                  const Int8Activations& x,
                                                                  int64_t row, int64_t block,
                                                                  const ProductOutput& y) {
  constexpr int64_t kStep = kBits == 8 ? 4 : 8;
  const __m512i nibble = _mm512_set1_epi8(15);
  const int64_t width = x.stride, groups = weight.groups;
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
      at[b] = kBlockColumns * (kRowScales ? block + b : (block + b) * groups + g);
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
          add_dots(whole[r][b], low[b], quad);
        }
      }
      for (int r = 0; kBits == 4 && r < kRows; ++r) {
        const __m512i quad = spread_quad(in + r * width + 4);
        for (int b = 0; b < kBlocks; ++b) {
          add_dots(whole[r][b], high[b], quad);
        }
      }
      in += kStep;
      codes += 64;
    }
    for (int b = 0; b < kBlocks; ++b) {
      const __m512 scales = kRowScales ? _mm512_setzero_ps() : scales_of_group(weight, at[b]);
      for (int r = 0; r < kRows; ++r) {
        __m512 scaled = _mm512_cvtepi32_ps(whole[r][b]);
        if (!kRowScales) scaled = _mm512_mul_ps(scaled, scales);
        const __m512 by = _mm512_set1_ps(x.scales[(row + r) * groups + g]);
        sums[r][b] = _mm512_fmadd_ps(scaled, by, sums[r][b]);
      }
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int r = 0; r < kRows; ++r) {
      __m512 sum = sums[r][b];
      if (kRowScales) {
        sum = _mm512_mul_ps(sum, _mm512_loadu_ps(weight.row_scales + (block + b) * kBlockColumns));
      }
      store_sums(sum, row + r, block + b, y);
    }
  }
}

template <int kBits, bool kRowScales, int kBlocks, bool kFromMemory>
int64_t rows_of_blocks(const PackedWeight& weight, const Int8Activations& x, int64_t row,
                       int64_t block, const ProductOutput& y) {
  const int64_t left = x.rows - row;
  if (left >= 8)
    return tile<kBits, kRowScales, 8, kBlocks, kFromMemory>(weight, x, row, block, y), 8;
  if (left >= 4)
    return tile<kBits, kRowScales, 4, kBlocks, kFromMemory>(weight, x, row, block, y), 4;
  if (left >= 2)
    return tile<kBits, kRowScales, 2, kBlocks, kFromMemory>(weight, x, row, block, y), 2;
  return tile<kBits, kRowScales, 1, kBlocks, kFromMemory>(weight, x, row, block, y), 1;
}

// The first tile of rows brings the codes from memory, the others find them in the cache.
template <int kBits, bool kRowScales, int kBlocks>
void all_rows(const PackedWeight& weight, const Int8Activations& x, int64_t block,
              const ProductOutput& y) {
  int64_t row = rows_of_blocks<kBits, kRowScales, kBlocks, true>(weight, x, 0, block, y);
  while (row < x.rows)
    row += rows_of_blocks<kBits, kRowScales, kBlocks, false>(weight, x, row, block, y);
}

template <int kBits, bool kRowScales>
void all_blocks(const PackedWeight& weight, const Int8Activations& x, int64_t first, int64_t last,
                const ProductOutput& y) {
  // Eight rows of two blocks leave no registers for the sums, which go to memory with every group:
  // worth it only where groups are long (groups of 32, measured: 15 % slower).
  const bool pairs = x.rows < 8 || weight.group >= 128;
  int64_t block = first;
  for (; pairs && block + 2 <= last; block += 2)
    all_rows<kBits, kRowScales, 2>(weight, x, block, y);
  for (; block < last; ++block) all_rows<kBits, kRowScales, 1>(weight, x, block, y);
}

}  // namespace

void int8_product_avx512(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                         int64_t last_block, const ProductOutput& y) {
  const bool by_row = weight.row_scales != nullptr;
  const auto product = weight.bits == 8 ? (by_row ? all_blocks<8, true> : all_blocks<8, false>)
                                        : (by_row ? all_blocks<4, true> : all_blocks<4, false>);
  product(weight, x, first_block, last_block, y);
}

}  // namespace llama2zh

#endif
