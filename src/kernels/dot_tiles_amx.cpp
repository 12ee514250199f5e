// Products of few rows by AMX: sixteen rows of the weight are one tile as they lie in memory, up to
// sixteen rows of x, their numbers in pairs, the other. Two tiles of each keep four of sums. Asking for
// memory ahead gained nothing: the processor's own prefetching follows the streams (31 GB/s of 37; a
// single stream, as dot_tiles_avx512.cpp has for one or two rows, reaches all of it).
#include "kernels/dot_tiles.h"

#if defined(__x86_64__)

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "kernels/amx_tiles.h"
#include "kernels/isa.h"

namespace llama2zh {
namespace {

using Bf16 = c10::BFloat16;

constexpr int64_t kTile = 16;
constexpr int64_t kStep = 32;  // of k
constexpr int64_t kGroup = 2 * kTile;

// Up to 32 rows of x in one or two tiles.
struct RowTiles {
  int64_t first = 0, count[2] = {0, 0};
  const Bf16* packed[2] = {nullptr, nullptr};
};

RowTiles row_tiles(const Bf16* x, int64_t rows, int64_t in, int64_t first) {
  RowTiles tiles{first, {std::min(kTile, rows - first), 0}, {x + first * in, nullptr}};
  tiles.count[1] = std::clamp<int64_t>(rows - first - kTile, 0, kTile);
  tiles.packed[1] = tiles.packed[0] + (tiles.count[1] > 0 ? kTile * in : 0);
  return tiles;
}

// Registers: 0 to 3 sums [weight tile][row tile], 4 and 5 the weight, 6 and 7 rows.
TileConfig shapes_of(const RowTiles& tiles, int64_t weight_rows) {
  TileConfig config;
  for (int w = 0; w < 2; ++w) {
    const int64_t rows = std::clamp<int64_t>(weight_rows - w * kTile, 0, kTile);
    if (rows == 0) continue;
    config.set(4 + w, rows, 2 * kStep);
    for (int r = 0; r < 2; ++r)
      if (tiles.count[r] > 0) config.set(2 * w + r, rows, 4 * tiles.count[r]);
  }
  for (int r = 0; r < 2; ++r)
    if (tiles.count[r] > 0) config.set(6 + r, kStep / 2, 4 * tiles.count[r]);
  return config;
}

// sums [kWeights][kRows][16][16], rows of the weight first.
template <int kWeights, int kRows>
[[gnu::target("amx-tile,amx-bf16")]] void group_sums(const RowTiles& tiles, const Bf16* weight,
                                                     int64_t in, float* sums) {
  const int64_t stride = in * static_cast<int64_t>(sizeof(Bf16));
  _tile_zero(0);
  if constexpr (kRows == 2) _tile_zero(1);
  if constexpr (kWeights == 2) _tile_zero(2);
  if constexpr (kWeights == 2 && kRows == 2) _tile_zero(3);
  for (int64_t k = 0; k < in; k += kStep) {
    _tile_loadd(6, tiles.packed[0] + k * tiles.count[0], 4 * tiles.count[0]);
    _tile_loadd(4, weight + k, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRows == 2) {
      _tile_loadd(7, tiles.packed[1] + k * tiles.count[1], 4 * tiles.count[1]);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kWeights == 2) {
      _tile_loadd(5, weight + kTile * in + k, stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kRows == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  constexpr int64_t kSums = kTile * kTile;
  _tile_stored(0, sums, 4 * kTile);
  if constexpr (kRows == 2) _tile_stored(1, sums + kSums, 4 * kTile);
  if constexpr (kWeights == 2) _tile_stored(2, sums + kRows * kSums, 4 * kTile);
  if constexpr (kWeights == 2 && kRows == 2) _tile_stored(3, sums + 3 * kSums, 4 * kTile);
}

[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 pairs(__m512 x, __m512 y, bool high) {
  const __m512d p = _mm512_castps_pd(x), q = _mm512_castps_pd(y);
  return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(p, q) : _mm512_unpacklo_pd(p, q));
}

// Sixteen rows of sixteen sums -> their columns, each in bfloat16.
[[gnu::target("avx512f,avx512bw,avx512vl,avx512bf16")]] void transpose(const float* sums,
                                                                       __m256i (&columns)[kTile]) {
  __m512 a[kTile], b[kTile];
  for (int i = 0; i < kTile; ++i) a[i] = _mm512_load_ps(sums + i * kTile);
  for (int i = 0; i < kTile; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < kTile; i += 4) {  // each quarter of a[i + j]: a column of four rows
    for (int j = 0; j < 4; ++j) a[i + j] = pairs(b[i + j / 2], b[i + j / 2 + 2], j % 2 == 1);
  }
  for (int i = 0; i < kTile; i += 8) {
    for (int j = 0; j < 4; ++j) {
      b[i + j] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0x88);
      b[i + j + 4] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; ++j) {
    columns[j] = (__m256i)_mm512_cvtneps_pbh(_mm512_shuffle_f32x4(b[j], b[j + 8], 0x88));
    columns[j + 8] = (__m256i)_mm512_cvtneps_pbh(_mm512_shuffle_f32x4(b[j], b[j + 8], 0xdd));
  }
}

// The first `rows` columns of a tile of sums into y's rows.
[[gnu::target("avx512f,avx512bw,avx512vl,avx512bf16")]] void store_columns(const float* sums,
                                                                           int64_t rows,
                                                                           int64_t count,
                                                                           int64_t out, Bf16* y) {
  __m256i columns[kTile];
  transpose(sums, columns);
  const auto mask = static_cast<__mmask16>((uint32_t{1} << count) - 1);
  for (int64_t row = 0; row < rows; ++row)
    _mm256_mask_storeu_epi16(y + row * out, mask, columns[row]);
}

// `weight`, y: at the group's first column.
void group_product(const RowTiles& tiles, const Bf16* weight, int64_t columns, int64_t in,
                   int64_t out, Bf16* y) {
  alignas(64) float sums[4 * kTile * kTile];  // of tiles that are not full, partly undefined
  const int rows = tiles.count[1] > 0 ? 2 : 1;
  const bool both = columns > kTile;
  if (both)
    (rows == 2 ? group_sums<2, 2> : group_sums<2, 1>)(tiles, weight, in, sums);
  else
    (rows == 2 ? group_sums<1, 2> : group_sums<1, 1>)(tiles, weight, in, sums);
  for (int w = 0; w < (both ? 2 : 1); ++w) {
    for (int r = 0; r < rows; ++r) {
      store_columns(sums + (w * rows + r) * kTile * kTile, tiles.count[r],
                    std::min(kTile, columns - w * kTile), out,
                    y + (tiles.first + r * kTile) * out + w * kTile);
    }
  }
}

}  // namespace

bool has_amx_dots(int64_t in) {
  static const bool has = has_amx_bf16() && may_use_amx();
  return has && in % kStep == 0;
}

at::Tensor pack_amx_rows(const at::Tensor& x) {
  const int64_t rows = x.size(0), in = x.size(1);
  at::Tensor packed = at::empty_like(x);
  const auto* from = x.const_data_ptr<Bf16>();
  auto* to = packed.data_ptr<Bf16>();
  at::parallel_for(0, rows, std::max<int64_t>(1, 65536 / in), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row / kTile * kTile, count = std::min(kTile, rows - first);
      Bf16* place = to + first * in + (row - first) * 2;
      for (int64_t k = 0; k < in; k += 2, place += 2 * count) {
        place[0] = from[row * in + k];
        place[1] = from[row * in + k + 1];
      }
    }
  });
  return packed;
}

void dot_product_amx(const Bf16* x, int64_t rows, int64_t in, int64_t out, const Bf16* weight,
                     int64_t begin, int64_t end, Bf16* y) {
  RowTiles tiles = row_tiles(x, rows, in, 0);
  int64_t of_config = std::min(kGroup, end - begin);
  const TileShapes shapes(shapes_of(tiles, of_config));
  const bool several = rows > kGroup;
  for (int64_t column = begin; column < end; column += kGroup) {
    const int64_t columns = std::min(kGroup, end - column);
    for (int64_t first = 0; first < rows; first += kGroup) {
      if (several) tiles = row_tiles(x, rows, in, first);
      if (several || columns != of_config) TileShapes::change(shapes_of(tiles, columns));
      of_config = columns;
      group_product(tiles, weight + column * in, columns, in, out, y + column);
    }
  }
}

}  // namespace llama2zh

#else

namespace llama2zh {

bool has_amx_dots(int64_t) { return false; }

}  // namespace llama2zh

#endif
