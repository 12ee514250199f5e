// For a tile of 64 queries (rows) and the tiles of 64 keys up to the diagonal:
//   S = scale Q K^T,  m = running row maximum,  P = e^(S - m),  l = running sum of P,  O = sum of P V,
// out = O / l, lse = m + log l. Backward forms P = e^(S - lse) again; with D = rowsum(dO * out):
//   dV += P^T dO,   dP = dO V^T,   dS = scale P * (dP - D),   dQ += dS K,   dK += dS^T Q.
// Products are oneDNN's brgemm through libtorch, which wants its right side in pairs of rows
// ("VNNI": [rows / 2][columns][2]). Tiles are filled up with zeros, so that every call has one of
// three shapes and the ragged lengths of fine-tuning rows compile no further kernels.
#include "kernels/flash_tiles.h"

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

using Bf16 = c10::BFloat16;
constexpr int64_t kTile = 64;
constexpr int64_t kTileArea = kTile * kTile;

// One head of one sequence: `length` rows of `dim` numbers, `stride` apart.
template <typename T>
struct HeadRows {
  T* first;
  int64_t stride, length, dim;
  T* row(int64_t i) const { return first + i * stride; }
  int64_t tiles() const { return (length + kTile - 1) / kTile; }
  int64_t rows_in(int64_t tile) const { return std::min(kTile, length - tile * kTile); }
};

// A tile's rows as they are, zeros behind them: [64, dim].
void copy_tile(const HeadRows<const Bf16>& head, int64_t tile, Bf16* out) {
  const int64_t rows = head.rows_in(tile);
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(head.row(tile * kTile + i), head.dim, out + i * head.dim);
  }
  std::fill(out + rows * head.dim, out + kTile * head.dim, Bf16(0));
}

// [64, dim] -> pairs of rows [32][dim][2]: the right side of a product that sums over rows.
void pair_rows(const Bf16* tile, int64_t dim, Bf16* out) {
  for (int64_t i = 0; i < kTile; i += 2) {
    const Bf16 *even = tile + i * dim, *odd = even + dim;
    for (int64_t c = 0; c < dim; ++c, out += 2) {
      out[0] = even[c];
      out[1] = odd[c];
    }
  }
}

// [64, dim] -> its transpose in pairs [dim / 2][64][2]: for a product that sums over the dimension.
void pair_columns(const Bf16* tile, int64_t dim, Bf16* out) {
  for (int64_t c = 0; c < dim; c += 2) {
    for (int64_t i = 0; i < kTile; ++i, out += 2) {
      out[0] = tile[i * dim + c];
      out[1] = tile[i * dim + c + 1];
    }
  }
}

void transpose_tile(const Bf16* tile, Bf16* out) {
  constexpr int64_t kBlock = 16;
  for (int64_t i = 0; i < kTile; i += kBlock) {
    for (int64_t j = 0; j < kTile; ++j) {
      for (int64_t k = i; k < i + kBlock; ++k) out[j * kTile + k] = tile[k * kTile + j];
    }
  }
}

// c [64, columns] (+)= a [64, inner] b, b in pairs.
void tile_product(const Bf16* a, const Bf16* b, float* c, int64_t columns, int64_t inner,
                  bool add) {
  at::native::cpublas::brgemm(kTile, columns, inner, inner, columns, columns, add, a, b, c, true);
}

// Keys and values of one head in the forms that the products want.
struct KeyValueTiles {
  std::vector<Bf16> key_columns, value_rows;  // forward
  std::vector<Bf16> key_rows, value_columns;  // backward too
  void pack(const HeadRows<const Bf16>& k, const HeadRows<const Bf16>& v, bool backward) {
    const int64_t area = kTile * k.dim;
    const auto size = static_cast<size_t>(k.tiles() * area);
    key_columns.resize(size);
    value_rows.resize(size);
    key_rows.resize(backward ? size : 0);
    value_columns.resize(backward ? size : 0);
    std::vector<Bf16> plain(static_cast<size_t>(area));
    for (int64_t tile = 0; tile < k.tiles(); ++tile) {
      copy_tile(k, tile, plain.data());
      pair_columns(plain.data(), k.dim, key_columns.data() + tile * area);
      if (backward) pair_rows(plain.data(), k.dim, key_rows.data() + tile * area);
      copy_tile(v, tile, plain.data());
      pair_rows(plain.data(), v.dim, value_rows.data() + tile * area);
      if (backward) pair_columns(plain.data(), v.dim, value_columns.data() + tile * area);
    }
  }
};

void hide_later_keys(float* scores) {
  for (int64_t i = 0; i < kTile; ++i) {
    std::fill(scores + i * kTile + i + 1, scores + (i + 1) * kTile,
              -std::numeric_limits<float>::infinity());
  }
}

// Running maximum and sum of a tile of queries, and the unnormalised output [64, dim].
struct SoftmaxState {
  float top[kTile], sum[kTile];
  std::vector<float> out;
  explicit SoftmaxState(int64_t dim) : out(static_cast<size_t>(kTile * dim)) {}
  void begin() {
    std::fill_n(top, kTile, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, kTile, 0.0f);
    std::fill(out.begin(), out.end(), 0.0f);
  }
  // Takes the scores of the next 64 keys in; leaves e^(score - maximum) in `weights`.
  void take(const float* scores, float scale, int64_t dim, Bf16* weights) {
    run_with_isa([&] {
      for (int64_t i = 0; i < kTile; ++i) {
        const float* s = scores + i * kTile;
        lanes::Floats largest = lanes::spread(-std::numeric_limits<float>::infinity());
        lanes::for_lanes(kTile, [&](int64_t j, int64_t) {
          largest = lanes::larger(largest, lanes::load(s + j));
        });
        const float before = top[i];
        top[i] = std::max(before, lanes::largest(largest) * scale);
        lanes::Floats total{};
        lanes::for_lanes(kTile, [&](int64_t j, int64_t) {
          const lanes::Floats e = lanes::exp(lanes::load(s + j) * scale - top[i]);
          total += e;
          lanes::store(weights + i * kTile + j, e);
        });
        const float shrink =
            std::isinf(before) ? 0.0f : lanes::exp(lanes::spread(before - top[i]))[0];
        sum[i] = sum[i] * shrink + lanes::sum(total);
        if (shrink == 1.0f) continue;
        float* row = out.data() + i * dim;
        lanes::for_lanes(dim, [&](int64_t c, int64_t count) {
          lanes::store_up_to(row + c, lanes::load_up_to(row + c, count) * shrink, count);
        });
      }
    });
  }
};

void store_rows(const float* tile, int64_t rows, int64_t dim, const float* divisors,
                const HeadRows<Bf16>& head, int64_t first_row) {
  run_with_isa([&] {
    for (int64_t i = 0; i < rows; ++i) {
      const float factor = divisors == nullptr ? 1.0f : 1.0f / divisors[i];
      Bf16* out = head.row(first_row + i);
      lanes::for_lanes(dim, [&](int64_t c, int64_t count) {
        lanes::store_up_to(out + c, lanes::load_up_to(tile + i * dim + c, count) * factor, count);
      });
    }
  });
}

void forward_head(const HeadRows<const Bf16>& q, const KeyValueTiles& tiles,
                  const HeadRows<Bf16>& out, float* lse, float scale) {
  const int64_t dim = q.dim, area = kTile * dim;
  std::vector<Bf16> queries(static_cast<size_t>(area)), weights(kTileArea);
  std::vector<float> scores(kTileArea);
  SoftmaxState state(dim);
  for (int64_t tile = 0; tile < q.tiles(); ++tile) {
    copy_tile(q, tile, queries.data());
    state.begin();
    for (int64_t other = 0; other <= tile; ++other) {
      tile_product(queries.data(), tiles.key_columns.data() + other * area, scores.data(), kTile,
                   dim, false);
      if (other == tile) hide_later_keys(scores.data());
      state.take(scores.data(), scale, dim, weights.data());
      tile_product(weights.data(), tiles.value_rows.data() + other * area, state.out.data(), dim,
                   kTile, true);
    }
    const int64_t rows = q.rows_in(tile);
    store_rows(state.out.data(), rows, dim, state.sum, out, tile * kTile);
    for (int64_t i = 0; i < rows; ++i) {
      lse[tile * kTile + i] = state.top[i] + std::log(state.sum[i]);
    }
  }
}

// scores -> P (bf16), and dP -> dS (bf16), of one tile. Rows behind `rows` are made zero.
void tile_gradients(const float* scores, const float* dp, const float* lse, const float* delta,
                    float scale, int64_t rows, Bf16* p, Bf16* ds) {
  run_with_isa([&] {
    for (int64_t i = 0; i < kTile; ++i) {
      const float shift = i < rows ? lse[i] : 0, minus = i < rows ? delta[i] : 0;
      const float kept = i < rows ? 1.0f : 0.0f;
      lanes::for_lanes(kTile, [&](int64_t j, int64_t) {
        const int64_t at = i * kTile + j;
        const lanes::Floats weight = lanes::exp(lanes::load(scores + at) * scale - shift) * kept;
        lanes::store(p + at, weight);
        lanes::store(ds + at, weight * (lanes::load(dp + at) - minus) * scale);
      });
    }
  });
}

// D of one tile: row sums of dO * out.
void output_products(const HeadRows<const Bf16>& out_grad, const HeadRows<const Bf16>& out,
                     int64_t tile, float* delta) {
  run_with_isa([&] {
    for (int64_t i = 0; i < out.rows_in(tile); ++i) {
      const Bf16 *a = out_grad.row(tile * kTile + i), *b = out.row(tile * kTile + i);
      lanes::Floats total{};
      lanes::for_lanes(out.dim, [&](int64_t c, int64_t count) {
        total += lanes::load_up_to(a + c, count) * lanes::load_up_to(b + c, count);
      });
      delta[i] = lanes::sum(total);
    }
  });
}

struct BackwardScratch {
  explicit BackwardScratch(int64_t dim)
      : queries(static_cast<size_t>(kTile * dim)),
        query_rows(queries.size()),
        out_grads(queries.size()),
        out_grad_rows(queries.size()),
        dq(queries.size()) {}
  std::vector<Bf16> queries, query_rows, out_grads, out_grad_rows;
  std::vector<float> dq;
  Bf16 p[kTileArea], ds[kTileArea], turned[kTileArea];
  float scores[kTileArea], dp[kTileArea], delta[kTile];
};

// Adds one query head's share to dk and dv ([tiles * 64, dim] fp32) and stores dq.
void backward_head(const HeadRows<const Bf16>& q, const HeadRows<const Bf16>& out_grad,
                   const HeadRows<const Bf16>& out, const float* lse, const KeyValueTiles& tiles,
                   float scale, BackwardScratch& s, float* dk, float* dv,
                   const HeadRows<Bf16>& dq) {
  const int64_t dim = q.dim, area = kTile * dim;
  for (int64_t tile = 0; tile < q.tiles(); ++tile) {
    const int64_t rows = q.rows_in(tile);
    copy_tile(q, tile, s.queries.data());
    pair_rows(s.queries.data(), dim, s.query_rows.data());
    copy_tile(out_grad, tile, s.out_grads.data());
    pair_rows(s.out_grads.data(), dim, s.out_grad_rows.data());
    output_products(out_grad, out, tile, s.delta);
    for (int64_t other = 0; other <= tile; ++other) {
      tile_product(s.queries.data(), tiles.key_columns.data() + other * area, s.scores, kTile, dim,
                   false);
      if (other == tile) hide_later_keys(s.scores);
      tile_product(s.out_grads.data(), tiles.value_columns.data() + other * area, s.dp, kTile, dim,
                   false);
      tile_gradients(s.scores, s.dp, lse + tile * kTile, s.delta, scale, rows, s.p, s.ds);
      transpose_tile(s.p, s.turned);
      tile_product(s.turned, s.out_grad_rows.data(), dv + other * area, dim, kTile, true);
      transpose_tile(s.ds, s.turned);
      tile_product(s.turned, s.query_rows.data(), dk + other * area, dim, kTile, true);
      tile_product(s.ds, tiles.key_rows.data() + other * area, s.dq.data(), dim, kTile, other > 0);
    }
    store_rows(s.dq.data(), rows, dim, nullptr, dq, tile * kTile);
  }
}

// Views of the heads of packed tensors.
struct PackedHeads {
  PackedHeads(const at::Tensor& q, const at::Tensor& k, const std::vector<int64_t>& ends)
      : boundaries(ends),
        tokens(q.size(0)),
        query_heads(q.size(1)),
        key_heads(k.size(1)),
        dim(q.size(2)),
        group(query_heads / key_heads),
        items(static_cast<int64_t>(boundaries.size() - 1) * key_heads) {}
  template <typename T>
  HeadRows<T> head(T* data, int64_t heads, int64_t sequence, int64_t index) const {
    const int64_t first = first_token(sequence);
    return {data + (first * heads + index) * dim, heads * dim, first_token(sequence + 1) - first,
            dim};
  }
  int64_t first_token(int64_t sequence) const { return boundaries[static_cast<size_t>(sequence)]; }

  const std::vector<int64_t>& boundaries;
  int64_t tokens, query_heads, key_heads, dim, group;
  int64_t items;  // sequences x key heads: what the threads share out
};

float score_scale(int64_t dim) { return 1.0f / std::sqrt(static_cast<float>(dim)); }

}  // namespace

bool has_flash_tiles(const at::Tensor& q) {
#if defined(__x86_64__)
  return q.is_cpu() && q.scalar_type() == at::kBFloat16 && q.size(-1) % 2 == 0 &&
         kernel_isa() == Isa::kAvx512 && __builtin_cpu_supports("avx512bf16");
#else
  (void)q;
  return false;
#endif
}

FlashOutput flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& boundaries) {
  const PackedHeads heads(q, k, boundaries);
  FlashOutput result{at::empty_like(q),
                     at::empty({heads.query_heads, heads.tokens}, q.options().dtype(at::kFloat))};
  const Bf16 *qs = q.const_data_ptr<Bf16>(), *ks = k.const_data_ptr<Bf16>(),
             *vs = v.const_data_ptr<Bf16>();
  Bf16* out = result.out.data_ptr<Bf16>();
  float* lse = result.lse.data_ptr<float>();
  const float scale = score_scale(heads.dim);
  at::parallel_for(0, heads.items, 1, [&](int64_t begin, int64_t end) {
    KeyValueTiles tiles;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t sequence = item / heads.key_heads, key_head = item % heads.key_heads;
      tiles.pack(heads.head(ks, heads.key_heads, sequence, key_head),
                 heads.head(vs, heads.key_heads, sequence, key_head), /*backward=*/false);
      for (int64_t h = key_head * heads.group; h < (key_head + 1) * heads.group; ++h) {
        forward_head(heads.head(qs, heads.query_heads, sequence, h), tiles,
                     heads.head(out, heads.query_heads, sequence, h),
                     lse + h * heads.tokens + heads.first_token(sequence), scale);
      }
    }
    at::native::cpublas::brgemm_release();
  });
  return result;
}

FlashGradients flash_attention_backward(const at::Tensor& out_grad, const at::Tensor& q,
                                        const at::Tensor& k, const at::Tensor& v,
                                        const FlashOutput& forward,
                                        const std::vector<int64_t>& boundaries) {
  const PackedHeads heads(q, k, boundaries);
  FlashGradients result{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  const Bf16 *qs = q.const_data_ptr<Bf16>(), *ks = k.const_data_ptr<Bf16>(),
             *vs = v.const_data_ptr<Bf16>(), *out = forward.out.const_data_ptr<Bf16>(),
             *dout = out_grad.const_data_ptr<Bf16>();
  const float *lse = forward.lse.const_data_ptr<float>(), scale = score_scale(heads.dim);
  Bf16 *dq = result.q.data_ptr<Bf16>(), *dk = result.k.data_ptr<Bf16>(),
       *dv = result.v.data_ptr<Bf16>();
  at::parallel_for(0, heads.items, 1, [&](int64_t begin, int64_t end) {
    KeyValueTiles tiles;
    BackwardScratch scratch(heads.dim);
    std::vector<float> key_grad, value_grad;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t sequence = item / heads.key_heads, key_head = item % heads.key_heads;
      const auto key = heads.head(ks, heads.key_heads, sequence, key_head);
      tiles.pack(key, heads.head(vs, heads.key_heads, sequence, key_head), /*backward=*/true);
      key_grad.assign(static_cast<size_t>(key.tiles() * kTile * heads.dim), 0.0f);
      value_grad.assign(key_grad.size(), 0.0f);
      for (int64_t h = key_head * heads.group; h < (key_head + 1) * heads.group; ++h) {
        backward_head(heads.head(qs, heads.query_heads, sequence, h),
                      heads.head(dout, heads.query_heads, sequence, h),
                      heads.head(out, heads.query_heads, sequence, h),
                      lse + h * heads.tokens + heads.first_token(sequence), tiles, scale, scratch,
                      key_grad.data(), value_grad.data(),
                      heads.head(dq, heads.query_heads, sequence, h));
      }
      store_rows(key_grad.data(), key.length, heads.dim, nullptr,
                 heads.head(dk, heads.key_heads, sequence, key_head), 0);
      store_rows(value_grad.data(), key.length, heads.dim, nullptr,
                 heads.head(dv, heads.key_heads, sequence, key_head), 0);
    }
    at::native::cpublas::brgemm_release();
  });
  return result;
}

}  // namespace llama2zh
