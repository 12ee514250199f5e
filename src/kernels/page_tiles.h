#pragma once

// The inner loops of paged attention, for bodies that isa.h compiles. A tile is M queries of one
// key-value head (rows of the batch and heads of the group, in any mixture); a partition is 256
// consecutive tokens of the sequence, counted from its first. For each query
//   s = q K^T,  m = max s,  w = e^(s - m),  l = sum w,  o = w V
// is formed partition by partition and the partitions are joined in order. Each of these sums has
// one order, whatever M is, so a query's result does not depend on what shares its tile.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/lanes.h"
#include "llama2zh/kernels/paged_attention.h"

namespace llama2zh::page_tiles {

constexpr int64_t kPartitionPages = 16;
constexpr int64_t kPartition = kPartitionPages * kPageTokens;
constexpr int64_t kMaxTile = 8;
static_assert(kPageTokens == lanes::kLanes);

inline lanes::Floats load(const float* p) { return lanes::load(p); }
inline lanes::Floats load(const c10::BFloat16* p) { return lanes::load(p); }
inline lanes::Floats load(const int8_t* p) {
  using Bytes = int8_t __attribute__((vector_size(16)));
  Bytes bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, lanes::Floats);
}

// One key-value head's pages of one sequence, from a partition's first page on.
template <typename T>
struct HeadPages {
  const T *keys, *values;                          // the head's part of page 0
  const float *key_scales, *value_scales;          // null without
  int64_t key_stride, value_stride, scale_stride;  // from page to page
  int64_t dim, padded_dim;
  const int32_t* table;

  const T* key_page(int64_t i) const { return keys + table[i] * key_stride; }
  const T* value_page(int64_t i) const { return values + table[i] * value_stride; }
};

// Asks for what lies there. Pages are anywhere in memory, and each is short: waiting for the beginning
// of every one costs as much as reading it.
template <typename T>
inline void ask_for(const T* begin, int64_t count) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(begin + i, 0, 2);
}

// What a query has seen so far: sums relative to e^top. `out` has padded_dim numbers.
struct QueryState {
  float top, sum;
  float* out;
};

// scores[m][16 page ..] of P pages from `page` on.
template <int M, int P, typename T>
void score_pages(const HeadPages<T>& head, const float* queries, int64_t page, float* scores) {
  lanes::Floats total[M][P] = {};
  const T* keys[P];
  for (int p = 0; p < P; ++p) keys[p] = head.key_page(page + p);
  for (int64_t c = 0; c < head.dim; ++c) {
    for (int p = 0; p < P; ++p) {
      const lanes::Floats k = load(keys[p] + c * kPageTokens);
      for (int m = 0; m < M; ++m) total[m][p] += k * queries[m * head.dim + c];
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int m = 0; m < M; ++m) {
      lanes::Floats s = total[m][p];
      if (head.key_scales != nullptr)
        s *= lanes::load(head.key_scales + head.table[page + p] * head.scale_stride);
      lanes::store(scores + m * kPartition + (page + p) * kPageTokens, s);
    }
  }
}

// Turns the scores of the first `tokens` tokens into weights, those behind into zeros.
template <typename T>
void soften(const HeadPages<T>& head, int64_t tokens, int64_t pages, float* scores,
            QueryState& state) {
  using Places = int32_t __attribute__((vector_size(64)));
  constexpr Places kPlaces = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const lanes::Floats hidden = lanes::spread(-std::numeric_limits<float>::infinity());
  lanes::Floats largest = hidden;
  for (int64_t p = 0; p < pages; ++p) {
    const auto left = static_cast<int32_t>(tokens - p * kPageTokens);
    const lanes::Floats s = lanes::load(scores + p * kPageTokens);
    largest = lanes::larger(largest, kPlaces < left ? s : hidden);
  }
  state.top = lanes::largest(largest);
  lanes::Floats total{};
  for (int64_t p = 0; p < pages; ++p) {
    const auto left = static_cast<int32_t>(tokens - p * kPageTokens);
    float* s = scores + p * kPageTokens;
    const lanes::Floats e = lanes::exp(lanes::load(s) - state.top);
    lanes::Floats w = kPlaces < left ? e : lanes::Floats{};
    total += w;
    if (head.value_scales != nullptr) {
      const lanes::Floats scale =
          lanes::load(head.value_scales + head.table[p] * head.scale_stride);
      w = kPlaces < left ? w * scale : lanes::Floats{};
    }
    lanes::store(s, w);
  }
  state.sum = lanes::sum(total);
}

// state[m].out[column ..] = sum over tokens of weight * value, C vectors of it.
template <int M, int C, typename T>
void weigh_values(const HeadPages<T>& head, const float* weights, int64_t tokens, int64_t column,
                  QueryState* states) {
  lanes::Floats total[M][C] = {};
  for (int64_t first = 0; first < tokens; first += kPageTokens) {
    const T* values = head.value_page(first / kPageTokens) + column;
    const int64_t end = std::min(kPageTokens, tokens - first);
    for (int64_t t = 0; t < end; ++t) {
      for (int c = 0; c < C; ++c) {
        const lanes::Floats v = load(values + t * head.padded_dim + c * lanes::kLanes);
        for (int m = 0; m < M; ++m) total[m][c] += v * weights[m * kPartition + first + t];
      }
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < C; ++c)
      lanes::store(states[m].out + column + c * lanes::kLanes, total[m][c]);
  }
}

// One partition for M queries [M][dim] (scaled already). tokens[m]: how many of its tokens query m
// sees; 0 leaves an empty state.
template <int M, typename T>
void attend_tile(const HeadPages<T>& head, const float* queries, const int64_t* tokens,
                 QueryState* states) {
  constexpr int P = M <= 2 ? 4 : M <= 4 ? 2 : 1, C = M <= 2 ? 4 : M <= 4 ? 2 : 1;
  float scores[M * kPartition];
  const int64_t most = *std::max_element(tokens, tokens + M);
  const int64_t pages = (most + kPageTokens - 1) / kPageTokens;
  // The keys of the next pages, and the values of these, come while scores are formed. Many queries
  // do enough with a page not to wait.
  const auto ask_ahead = [&](int64_t page, int64_t count) {
    if (M > 4) return;
    for (int64_t i = page; i < page + count; ++i) {
      if (i + P < pages) ask_for(head.key_page(i + P), head.dim * kPageTokens);
      ask_for(head.value_page(i), head.padded_dim * kPageTokens);
    }
  };
  int64_t page = 0;
  for (; page + P <= pages; page += P) {
    ask_ahead(page, P);
    score_pages<M, P>(head, queries, page, scores);
  }
  for (; page < pages; ++page) {
    ask_ahead(page, 1);
    score_pages<M, 1>(head, queries, page, scores);
  }
  for (int m = 0; m < M; ++m) soften(head, tokens[m], pages, scores + m * kPartition, states[m]);
  int64_t column = 0;
  for (; column + C * lanes::kLanes <= head.padded_dim; column += C * lanes::kLanes)
    weigh_values<M, C>(head, scores, most, column, states);
  for (; column < head.padded_dim; column += lanes::kLanes)
    weigh_values<M, 1>(head, scores, most, column, states);
}

// Any number of queries: eights, fours, the rest.
template <typename T>
void attend_partition(const HeadPages<T>& head, const float* queries, const int64_t* tokens,
                      int64_t count, QueryState* states) {
  while (count > 0) {
    const int64_t taken = count >= 8 ? 8 : std::min<int64_t>(count, 4);
    switch (taken) {
      case 8:
        attend_tile<8>(head, queries, tokens, states);
        break;
      case 4:
        attend_tile<4>(head, queries, tokens, states);
        break;
      case 3:
        attend_tile<3>(head, queries, tokens, states);
        break;
      case 2:
        attend_tile<2>(head, queries, tokens, states);
        break;
      default:
        attend_tile<1>(head, queries, tokens, states);
    }
    queries += taken * head.dim;
    tokens += taken;
    states += taken;
    count -= taken;
  }
}

// Takes a later partition into `state`.
inline void join(QueryState& state, const QueryState& part, int64_t padded_dim) {
  const float none = -std::numeric_limits<float>::infinity();
  if (part.top == none) return;
  const float top = std::max(state.top, part.top);
  const float keep = state.top == none ? 0.0f : lanes::exp(lanes::spread(state.top - top))[0];
  const float take = lanes::exp(lanes::spread(part.top - top))[0];
  for (int64_t c = 0; c < padded_dim; c += lanes::kLanes) {
    const lanes::Floats before = lanes::load(state.out + c) * keep;
    lanes::store(state.out + c, before + lanes::load(part.out + c) * take);
  }
  state.sum = state.sum * keep + part.sum * take;
  state.top = top;
}

}  // namespace llama2zh::page_tiles
