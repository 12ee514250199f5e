#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace llama2zh {

// Tokens in a page of keys and values: as many as kernels/lanes.h takes at a time.
inline constexpr int64_t kPageTokens = 16;

// Keys and values of one layer, cut into pages that sequences own by number. Types: fp32, bf16 or
// fp16, or int8 with a scale for each token and head (value = int8 * scale).
struct KvPages {
  at::Tensor keys;    // [pages, nk, d, 16]: a token is a column, so sixteen scores are one vector
  at::Tensor values;  // [pages, nk, 16, d rounded up to 16]; what is beyond d is zero
  at::Tensor key_scales, value_scales;  // [pages, nk, 16] fp32 with int8, else undefined
};
// `type` kChar: int8. The memory is not initialised: only tokens that were written are ever read.
KvPages make_kv_pages(int64_t pages, int64_t kv_heads, int64_t head_dim, at::ScalarType type,
                      at::Device device);

// One sequence's part in a batch: its rows first_row .. first_row + rows - 1 are the last `rows` of
// its `length` tokens; token t lives in page table[t / 16], slot t % 16.
struct PagedRows {
  int64_t first_row = 0, rows = 0, length = 0;
  const int32_t* table = nullptr;  // on the CPU
};

// Stores rows of k and v [T, nk, d] into the pages of their sequences.
void write_pages(const KvPages& pages, const at::Tensor& k, const at::Tensor& v,
                 std::span<const PagedRows> sequences);

// Causal attention of q [T, nq, d] (nq a multiple of nk: grouped queries) over the pages, which hold
// the rows themselves already -> [T, nq, d] in q's type. Scale 1/sqrt(d), sums in fp32. Rows of no
// sequence are left undefined. On a CPU with fp32 or bf16 queries a row's result is bit for bit the
// same whatever else is in the batch, however its sequence was cut into chunks, with any number of
// threads. No gradient.
at::Tensor paged_attention(const at::Tensor& q, const KvPages& pages,
                           std::span<const PagedRows> sequences);

// The same through libtorch's own operations, for other devices and types: pages are gathered.
void write_pages_by_index(const KvPages& pages, const at::Tensor& k, const at::Tensor& v,
                          std::span<const PagedRows> sequences);
at::Tensor paged_attention_by_gather(const at::Tensor& q, const KvPages& pages,
                                     std::span<const PagedRows> sequences);

}  // namespace llama2zh
