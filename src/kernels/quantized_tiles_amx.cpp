// int8 products with AMX, for many rows. A tile of activations is 16 rows of up to 64 codes, one of
// weights the same 64 of 16 columns, four behind each other: that is the layout of QuantizedMatrix, so
// 8-bit weights are loaded as they lie, and 4-bit ones are spread to bytes once for all rows. Groups
// are added up as the other kernels do it, to the same bits.
#include "kernels/quantized_tiles.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <vector>

#include "kernels/amx_tiles.h"

namespace llama2zh {
namespace {

constexpr int64_t kTileRows = 16, kTileDepth = 64;
constexpr int64_t kRowsAtOnce = 256;  // whose codes stay in the second cache for all blocks

// Registers 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights.
TileConfig shapes_of(int64_t depth) {
  TileConfig config;
  for (int tile = 0; tile < 4; ++tile) config.set(tile, kTileRows, 64);
  for (int tile = 4; tile < 6; ++tile) config.set(tile, kTileRows, depth);
  for (int tile = 6; tile < 8; ++tile) config.set(tile, depth / 4, 64);
  return config;
}

// What one pass works on: kRowTiles tiles of rows times kBlocks blocks.
struct Pass {
  const PackedWeight* weight;
  const Int8Activations* x;
  int64_t row, block;
  const uint8_t* codes[2];  // of each block, a byte each
};

// The products of one group, in 32-bit integers: [kRowTiles][kBlocks][16][16].
template <int kRowTiles, int kBlocks>
[[gnu::target("amx-tile,amx-int8")]] void group_products(const Pass& pass, int64_t group,
                                                         int64_t depth, int32_t* out) {
  const int64_t width = pass.x->stride, begin = group * pass.weight->group;
  const int8_t* x = pass.x->codes + pass.row * width + begin;
  const uint8_t *first = pass.codes[0] + 16 * begin, *second = pass.codes[1] + 16 * begin;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < pass.weight->group; k += depth) {
    _tile_loadd(4, x + k, width);
    _tile_loadd(6, first + 16 * k, 64);
    _tile_dpbsud(0, 4, 6);
    if constexpr (kBlocks == 2) {
      _tile_loadd(7, second + 16 * k, 64);
      _tile_dpbsud(1, 4, 7);
    }
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, x + kTileRows * width + k, width);
      _tile_dpbsud(2, 5, 6);
      if constexpr (kBlocks == 2) _tile_dpbsud(3, 5, 7);
    }
  }
  constexpr int64_t kTile = kTileRows * kBlockColumns;
  _tile_stored(0, out, 64);
  if constexpr (kBlocks == 2) _tile_stored(1, out + kTile, 64);
  if constexpr (kRowTiles == 2) _tile_stored(2, out + kBlocks * kTile, 64);
  if constexpr (kRowTiles == 2 && kBlocks == 2) _tile_stored(3, out + 3 * kTile, 64);
}

template <int kRowTiles, int kBlocks, bool kZeros>
[[gnu::target("avx512f,avx512bw,avx512vl")]] void products(const Pass& pass, int64_t depth,
                                                           const ProductOutput& y) {
  constexpr int64_t kRows = kRowTiles * kTileRows;
  const PackedWeight& weight = *pass.weight;
  const Int8Activations& x = *pass.x;
  const int64_t groups = weight.groups;
  alignas(64) int32_t whole[kRows * kBlocks * kBlockColumns];
  alignas(64) float sums[kBlocks][kRows][kBlockColumns] = {};
  for (int64_t g = 0; g < groups; ++g) {
    group_products<kRowTiles, kBlocks>(pass, g, depth, whole);
    for (int b = 0; b < kBlocks; ++b) {
      const int64_t block = pass.block + b;
      const int64_t at = kBlockColumns * (weight.row_scales ? block : block * groups + g);
      const __m512 scales = weight.group_scales == nullptr
                                ? _mm512_set1_ps(1)
                                : _mm512_cvtph_ps(_mm256_loadu_si256(
                                      reinterpret_cast<const __m256i*>(weight.group_scales + at)));
      __m512i zeros = _mm512_setzero_si512();
      if (kZeros) {
        zeros = _mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight.zeros + at)));
      }
      for (int64_t r = 0; r < kRows; ++r) {
        const int64_t place = (pass.row + r) * groups + g;
        const int64_t tile = (r / kTileRows) * kBlocks + b;
        const int32_t* product = whole + (tile * kTileRows + r % kTileRows) * kBlockColumns;
        __m512i start = _mm512_set1_epi32(x.offsets[place]);
        if (kZeros) start = _mm512_mullo_epi32(zeros, start);
        const __m512i exact = _mm512_add_epi32(_mm512_load_si512(product), start);
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), scales);
        const __m512 sum =
            _mm512_fmadd_ps(scaled, _mm512_set1_ps(x.scales[place]), _mm512_load_ps(sums[b][r]));
        _mm512_store_ps(sums[b][r], sum);
      }
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int64_t r = 0; r < kRows; ++r) {
      if (weight.row_scales) {
        const float* by = weight.row_scales + (pass.block + b) * kBlockColumns;
        _mm512_store_ps(sums[b][r], _mm512_mul_ps(_mm512_load_ps(sums[b][r]), _mm512_loadu_ps(by)));
      }
      store_block(sums[b][r], pass.row + r, pass.block + b, y);
    }
  }
}

// A block's nibbles as bytes, in the order of 8-bit codes.
[[gnu::target("avx512f")]] void spread_nibbles(const uint8_t* codes, int64_t bytes, uint8_t* out) {
  const __m512i nibble = _mm512_set1_epi32(0x0F0F0F0F);
  for (int64_t i = 0; i < bytes; i += 64) {
    const __m512i both = _mm512_loadu_si512(codes + i);
    _mm512_storeu_si512(out + 2 * i, _mm512_and_si512(both, nibble));
    _mm512_storeu_si512(out + 2 * i + 64, _mm512_and_si512(_mm512_srli_epi32(both, 4), nibble));
  }
}

// Rows [begin, end), a multiple of a tile's, times `blocks` blocks from pass.block on.
template <bool kZeros>
void rows_of_blocks(Pass pass, int64_t begin, int64_t end, int64_t blocks, int64_t depth,
                    const ProductOutput& y) {
  for (pass.row = begin; pass.row < end;) {
    const bool two = end - pass.row >= 2 * kTileRows;
    if (two && blocks == 2)
      products<2, 2, kZeros>(pass, depth, y);
    else if (two)
      products<2, 1, kZeros>(pass, depth, y);
    else if (blocks == 2)
      products<1, 2, kZeros>(pass, depth, y);
    else
      products<1, 1, kZeros>(pass, depth, y);
    pass.row += (two ? 2 : 1) * kTileRows;
  }
}

}  // namespace

bool has_int8_tiles() {
  static const bool has = __builtin_cpu_supports("avx512vnni") && has_amx_int8() && may_use_amx();
  return has;
}

void int8_product_amx(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                      int64_t last_block, const ProductOutput& y) {
  const int64_t rows = x.rows / kTileRows * kTileRows, depth = std::min(kTileDepth, weight.group);
  if (rows > 0) {
    const TileShapes shapes(shapes_of(depth));
    const int64_t spread = kBlockColumns * weight.padded_in();
    static thread_local std::vector<uint8_t> bytes;
    if (weight.bits == 4 && std::ssize(bytes) < 2 * spread)
      bytes.resize(static_cast<size_t>(2 * spread));
    for (int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
      for (int64_t block = first_block; block < last_block; block += 2) {
        const int64_t blocks = std::min<int64_t>(2, last_block - block);
        Pass pass{&weight, &x, begin, block, {nullptr, nullptr}};
        for (int64_t b = 0; b < blocks; ++b) {
          const uint8_t* codes = weight.codes + (block + b) * weight.block_bytes;
          if (weight.bits == 4)
            spread_nibbles(codes, weight.block_bytes, bytes.data() + b * spread);
          pass.codes[b] = weight.bits == 4 ? bytes.data() + b * spread : codes;
        }
        if (blocks == 1) pass.codes[1] = pass.codes[0];
        const auto product = weight.zeros == nullptr ? rows_of_blocks<false> : rows_of_blocks<true>;
        product(pass, begin, std::min(rows, begin + kRowsAtOnce), blocks, depth, y);
      }
    }
  }
  if (rows == x.rows) return;
  const int64_t size = y.bfloat16 ? 2 : 4;
  const Int8Activations rest{x.codes + rows * x.stride, x.scales + rows * weight.groups,
                             x.offsets + rows * weight.groups, x.rows - rows, x.stride};
  const ProductOutput below{static_cast<uint8_t*>(y.y) + rows * y.out * size, y.bfloat16, y.out};
  int8_product_avx512(weight, rest, first_block, last_block, below);
}

}  // namespace llama2zh

#endif
