// Dot products over k with vdpbf16ps: six rows of the weight times up to four of x keep 24 sums in
// registers. Six rows of a weight side by side are six streams that share the cache's sets, which
// the processor's own prefetching handles badly. So memory is asked for in the order in which it
// lies: while all passes over one group of rows run, the next group comes into the second-level
// cache, some lines a step, evenly over the passes. One or two rows of x take the weight's rows one
// by one instead, and ask for what lies kStreamAhead further on (22 -> 31 GB/s of 33 on a Xeon).
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "kernels/dot_tiles.h"

namespace llama2zh {
namespace {

constexpr int kGroup = 6;               // rows of the weight
constexpr int64_t kStreamAhead = 4096;  // bytes, where its rows are taken one by one

int64_t steps_of(int64_t in) { return (in + kDotWidth - 1) / kDotWidth; }
int64_t passes_of(int64_t rows) { return (rows + kDotRows - 1) / kDotRows; }
int64_t pass_begin(int64_t rows, int64_t pass) { return rows * pass / passes_of(rows); }

}  // namespace

at::Tensor pack_dot_rows(const at::Tensor& x) {
  const int64_t rows = x.size(0), in = x.size(1), steps = steps_of(in);
  at::Tensor packed = at::empty({rows, steps * kDotWidth}, x.options());
  const auto* from = x.const_data_ptr<c10::BFloat16>();
  auto* to = packed.data_ptr<c10::BFloat16>();
  at::parallel_for(0, passes_of(rows), std::max<int64_t>(1, 65536 / in), [&](int64_t b, int64_t e) {
    for (int64_t pass = b; pass < e; ++pass) {
      const int64_t first = pass_begin(rows, pass), count = pass_begin(rows, pass + 1) - first;
      for (int64_t row = 0; row < count; ++row) {
        for (int64_t step = 0; step < steps; ++step) {
          c10::BFloat16* place = to + (first * steps + step * count + row) * kDotWidth;
          const int64_t n = std::min(kDotWidth, in - step * kDotWidth);
          if (n < kDotWidth) std::memset(static_cast<void*>(place), 0, 2 * kDotWidth);
          std::memcpy(place, from + (first + row) * in + step * kDotWidth,
                      static_cast<size_t>(n) * sizeof *place);
        }
      }
    }
  });
  return packed;
}

}  // namespace llama2zh

#if defined(__x86_64__)

#include <immintrin.h>

namespace llama2zh {
namespace {

using Bf16 = c10::BFloat16;

[[gnu::target("avx512f,avx512bw,avx512bf16"), gnu::always_inline]] inline __m512bh load_dots(
    const Bf16* p) {
  return (__m512bh)_mm512_loadu_si512(p);
}
[[gnu::target("avx512f,avx512bw,avx512bf16"), gnu::always_inline]] inline __m512bh load_dots(
    const Bf16* p, __mmask32 mask) {
  return (__m512bh)_mm512_maskz_loadu_epi16(mask, p);
}

// The sums of four vectors' lanes, each added up in the same order.
[[gnu::target("avx512f,avx512bw,avx512dq"), gnu::always_inline]] inline __m128 four_sums(__m512 a,
                                                                                         __m512 b,
                                                                                         __m512 c,
                                                                                         __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 quarters = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  const __m256 halves =
      _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

template <int kCount>
[[gnu::target("avx512f,avx512bw,avx512dq"), gnu::always_inline]] inline void store_sums(
    const __m512 (&sums)[kCount], int columns, int64_t out, Bf16* y) {
  float results[(kCount + 3) / 4 * 4];
  const __m512 none = _mm512_setzero_ps();
  for (int i = 0; i < kCount; i += 4) {
    _mm_storeu_ps(results + i, four_sums(sums[i], i + 1 < kCount ? sums[i + 1] : none,
                                         i + 2 < kCount ? sums[i + 2] : none,
                                         i + 3 < kCount ? sums[i + 3] : none));
  }
  for (int i = 0; i < kCount; ++i) y[i / columns * out + i % columns] = Bf16(results[i]);
}

// kRows rows of x times kColumns of the weight; asks for kAhead lines of `next` a step.
template <int kRows, int kColumns, int kAhead>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512bf16")]] void dot_tile(const Bf16* x,
                                                                      const Bf16* weight,
                                                                      int64_t in, int64_t out,
                                                                      const char* next, Bf16* y) {
  __m512 sums[kRows * kColumns];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  int64_t k = 0;
  for (; k + kDotWidth <= in; k += kDotWidth) {
    __m512bh w[kColumns];
    for (int i = 0; i < kAhead; ++i) _mm_prefetch(next + 64 * i, _MM_HINT_T1);
    next += 64 * kAhead;
    for (int c = 0; c < kColumns; ++c) w[c] = load_dots(weight + c * in + k);
    for (int r = 0; r < kRows; ++r) {
      const __m512bh v = load_dots(x + k * kRows + r * kDotWidth);
      for (int c = 0; c < kColumns; ++c) {
        sums[r * kColumns + c] = _mm512_dpbf16_ps(sums[r * kColumns + c], w[c], v);
      }
    }
  }
  if (k < in) {
    const __mmask32 mask = (1u << (in - k)) - 1;
    for (int c = 0; c < kColumns; ++c) {
      const __m512bh w = load_dots(weight + c * in + k, mask);
      for (int r = 0; r < kRows; ++r) {
        const __m512bh v = load_dots(x + k * kRows + r * kDotWidth);
        sums[r * kColumns + c] = _mm512_dpbf16_ps(sums[r * kColumns + c], w, v);
      }
    }
  }
  store_sums(sums, kColumns, out, y);
}

using DotTile = void (*)(const Bf16*, const Bf16*, int64_t, int64_t, const char*, Bf16*);

template <int kColumns, int kAhead>
DotTile dot_tile_of(int64_t rows) {
  constexpr DotTile kTiles[] = {dot_tile<1, kColumns, kAhead>, dot_tile<2, kColumns, kAhead>,
                                dot_tile<3, kColumns, kAhead>, dot_tile<4, kColumns, kAhead>};
  return kTiles[rows - 1];
}

DotTile group_tile_of(int64_t rows, int64_t ahead) {
  switch (ahead) {
    case 6:
      return dot_tile_of<kGroup, 6>(rows);
    case 3:
      return dot_tile_of<kGroup, 3>(rows);
    case 2:
      return dot_tile_of<kGroup, 2>(rows);
    case 1:
      return dot_tile_of<kGroup, 1>(rows);
    default:
      return dot_tile_of<kGroup, 0>(rows);
  }
}

// Lines a step that bring a group's worth in over all passes.
int64_t lines_ahead(int64_t passes) { return (kGroup + passes - 1) / passes; }

}  // namespace

void dot_product_avx512(const Bf16* x, int64_t rows, int64_t in, int64_t out, const Bf16* weight,
                        int64_t begin, int64_t end, Bf16* y) {
  const int64_t passes = passes_of(rows), padded = steps_of(in) * kDotWidth;
  const int64_t ahead =
      lines_ahead(passes) == 4 || lines_ahead(passes) == 5 ? 6 : lines_ahead(passes);
  int64_t column = begin;
  for (; rows > 2 && column + kGroup <= end; column += kGroup) {
    const char* next = reinterpret_cast<const char*>(weight + (column + kGroup) * in);
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t row = pass_begin(rows, pass), count = pass_begin(rows, pass + 1) - row;
      const int64_t wanted = pass * ahead < kGroup ? ahead : 0;
      group_tile_of(count, wanted)(x + row * padded, weight + column * in, in, out,
                                   next + pass * ahead * in / kDotWidth * 64,
                                   y + row * out + column);
    }
  }
  for (; column < end; ++column) {
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t row = pass_begin(rows, pass), count = pass_begin(rows, pass + 1) - row;
      const char* next = reinterpret_cast<const char*>(weight + column * in) + kStreamAhead;
      dot_tile_of<1, 1>(count)(x + row * padded, weight + column * in, in, out, next,
                               y + row * out + column);
    }
  }
}

}  // namespace llama2zh

#endif
