// int8 products with AVX2. vpmaddubsw adds pairs of products in 16 bits: with 4-bit codes they fit;
// 8-bit codes are taken as |w| times x with w's sign (w = code - 128), whose pairs fit too. Sums are
// exact integers, so that the results are those of the other instruction sets.
#include "kernels/quantized_tiles.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

namespace llama2zh {
namespace {

[[gnu::target("avx2"), gnu::always_inline]] inline __m256i load_codes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

[[gnu::target("avx2"), gnu::always_inline]] inline __m256i spread_quad_avx2(const int8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof quad);
  return _mm256_set1_epi32(quad);
}

// sums of eight columns += codes (unsigned, 4 a column) times x; pairs must fit 16 bits.
[[gnu::target("avx2"), gnu::always_inline]] inline __m256i add_products(__m256i sums, __m256i codes,
                                                                        __m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(codes, x);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// Eight columns' sums before the first product: -zero * sum(x) of the codes as they are multiplied.
template <int kBits>
[[gnu::target("avx2"), gnu::always_inline]] inline __m256i start_avx2(const PackedWeight& weight,
                                                                      int64_t at, int32_t offset) {
  const __m256i spread = _mm256_set1_epi32(offset);
  if (weight.zeros == nullptr) return kBits == 8 ? _mm256_setzero_si256() : spread;
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(weight.zeros + at));
  __m256i zeros = _mm256_cvtepu8_epi32(bytes);
  if (kBits == 8) zeros = _mm256_sub_epi32(zeros, _mm256_set1_epi32(128));
  return _mm256_mullo_epi32(zeros, spread);
}

[[gnu::target("avx2,f16c"), gnu::always_inline]] inline __m256 scales_avx2(
    const PackedWeight& weight, int64_t at) {
  if (weight.group_scales == nullptr) return _mm256_set1_ps(1);
  return _mm256_cvtph_ps(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight.group_scales + at)));
}

template <int kBits>
[[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline void add_group_avx2(
    const PackedWeight& weight, const uint8_t* codes, const int8_t* x, __m256i (&whole)[2]) {
  const __m256i middle = _mm256_set1_epi8(-128), nibble = _mm256_set1_epi8(15);
  constexpr int64_t kStep = kBits == 8 ? 4 : 8;
  for (int64_t k = 0; k < weight.group; k += kStep) {
    const __m256i quad = spread_quad_avx2(x + k);
    for (int half = 0; half < 2; ++half) {
      const __m256i packed = load_codes(codes + 32 * half);
      if (kBits == 8) {
        const __m256i w = _mm256_xor_si256(packed, middle);
        whole[half] = add_products(whole[half], _mm256_abs_epi8(w), _mm256_sign_epi8(quad, w));
      } else {
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble);
        whole[half] = add_products(whole[half], _mm256_and_si256(packed, nibble), quad);
        whole[half] = add_products(whole[half], high, spread_quad_avx2(x + k + 4));
      }
    }
    codes += 64;
  }
}

template <int kBits>
[[gnu::target("avx2,fma,f16c")]] void block_avx2(const PackedWeight& weight,
                                                 const Int8Activations& x, int64_t row,
                                                 int64_t block, const ProductOutput& y) {
  const int64_t group_bytes = weight.block_bytes / weight.groups;
  const uint8_t* codes = weight.codes + block * weight.block_bytes;
  const int8_t* in = x.codes + row * x.stride;
  __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int64_t g = 0; g < weight.groups; ++g) {
    const int64_t at = kBlockColumns * (weight.row_scales ? block : block * weight.groups + g);
    const int32_t offset = x.offsets[row * weight.groups + g];
    __m256i whole[2] = {start_avx2<kBits>(weight, at, offset),
                        start_avx2<kBits>(weight, at + 8, offset)};
    add_group_avx2<kBits>(weight, codes + g * group_bytes, in + g * weight.group, whole);
    const __m256 by = _mm256_set1_ps(x.scales[row * weight.groups + g]);
    for (int half = 0; half < 2; ++half) {
      const __m256 scales = scales_avx2(weight, at + 8 * half);
      const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[half]), scales);
      sums[half] = _mm256_fmadd_ps(scaled, by, sums[half]);
    }
  }
  float result[kBlockColumns];
  for (int half = 0; half < 2; ++half) {
    if (weight.row_scales) {
      const float* scales = weight.row_scales + block * kBlockColumns + 8 * half;
      sums[half] = _mm256_mul_ps(sums[half], _mm256_loadu_ps(scales));
    }
    _mm256_storeu_ps(result + 8 * half, sums[half]);
  }
  store_block(result, row, block, y);
}

}  // namespace

// A block's codes come from memory once and stay in the cache for the other rows.
void int8_product_avx2(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                       int64_t last_block, const ProductOutput& y) {
  for (int64_t block = first_block; block < last_block; ++block) {
    for (int64_t row = 0; row < x.rows; ++row) {
      if (weight.bits == 8) {
        block_avx2<8>(weight, x, row, block, y);
      } else {
        block_avx2<4>(weight, x, row, block, y);
      }
    }
  }
}

}  // namespace llama2zh

#endif
