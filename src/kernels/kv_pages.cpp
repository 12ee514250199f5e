// Pages of keys and values: their layout, storing into them, and the way through libtorch's own
// operations (index_put, gather and scaled_dot_product_attention) for devices other than the CPU.
// int8: scale = max |x| / 127 of a token's head, so a token's numbers depend on nothing else.
#include <ATen/Parallel.h>
#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/lanes.h"
#include "llama2zh/kernels/paged_attention.h"
#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

int64_t padded(int64_t dim) { return (dim + lanes::kLanes - 1) / lanes::kLanes * lanes::kLanes; }

template <typename T>
void store_numbers(const T* x, int64_t dim, int64_t step, T* out, float*) {
  for (int64_t c = 0; c < dim; ++c) out[c * step] = x[c];
}

template <typename T>
void store_numbers(const T* x, int64_t dim, int64_t step, int8_t* out, float* scale) {
  float largest = 0;
  for (int64_t c = 0; c < dim; ++c) largest = std::max(largest, std::abs(static_cast<float>(x[c])));
  // What is not finite must stay visible, and has no int8.
  for (int64_t c = 0; c < dim; ++c) {
    if (!std::isfinite(static_cast<float>(x[c]))) largest = static_cast<float>(x[c]);
  }
  *scale = largest / 127;
  const float factor = std::isfinite(largest) && largest > 0 ? 127 / largest : 0;
  for (int64_t c = 0; c < dim; ++c) {
    const float number = std::isfinite(largest) ? static_cast<float>(x[c]) * factor : 1;
    out[c * step] = static_cast<int8_t>(std::lrint(number));
  }
}

template <typename T, typename Page>
void store_tokens(const KvPages& pages, const at::Tensor& k, const at::Tensor& v,
                  const PagedRows& sequence) {
  const int64_t heads = k.size(1), dim = k.size(2), wide = pages.values.size(3);
  const T *keys = k.const_data_ptr<T>(), *values = v.const_data_ptr<T>();
  Page *to_keys = pages.keys.data_ptr<Page>(), *to_values = pages.values.data_ptr<Page>();
  const bool scaled = pages.key_scales.defined();
  float* key_scales = scaled ? pages.key_scales.data_ptr<float>() : nullptr;
  float* value_scales = scaled ? pages.value_scales.data_ptr<float>() : nullptr;
  at::parallel_for(0, sequence.rows, 32, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t token = sequence.length - sequence.rows + row;
      const int64_t page = sequence.table[token / kPageTokens], slot = token % kPageTokens;
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t from = ((sequence.first_row + row) * heads + head) * dim;
        const int64_t place = page * heads + head, scale = place * kPageTokens + slot;
        store_numbers(keys + from, dim, kPageTokens, to_keys + place * dim * kPageTokens + slot,
                      key_scales + (scaled ? scale : 0));
        Page* const value = to_values + (place * kPageTokens + slot) * wide;
        store_numbers(values + from, dim, 1, value, value_scales + (scaled ? scale : 0));
        std::fill(value + dim, value + wide, Page(0));
      }
    }
  });
}

// [n] page numbers and slots of a sequence's rows, on the pages' device.
std::pair<at::Tensor, at::Tensor> places_of(const PagedRows& sequence, const at::Device& device) {
  std::vector<int64_t> pages, slots;
  for (int64_t t = sequence.length - sequence.rows; t < sequence.length; ++t) {
    pages.push_back(sequence.table[t / kPageTokens]);
    slots.push_back(t % kPageTokens);
  }
  return {at::tensor(pages).to(device), at::tensor(slots).to(device)};
}

// x [n, nk, d] -> as stored, and the scales [n, nk] where pages have them.
std::pair<at::Tensor, at::Tensor> quantized(const at::Tensor& x, at::ScalarType type) {
  if (type != at::kChar) return {x.to(type), {}};
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = wide.abs().amax(-1) / 127;
  const at::Tensor codes = (wide / scale.clamp_min(1e-30).unsqueeze(-1)).round();
  return {codes.to(at::kChar), scale};
}

// The first `length` tokens of a sequence: [nk, length, d] in `type`.
at::Tensor gathered(const at::Tensor& pages, const at::Tensor& scales, bool columns, int64_t length,
                    int64_t dim, const at::Tensor& table, at::ScalarType type) {
  at::Tensor x = pages.index_select(0, table).to(type);  // [n, nk, ...]
  if (columns) x = x.transpose(2, 3);
  if (scales.defined()) x = x * scales.index_select(0, table).unsqueeze(-1).to(type);
  const int64_t heads = x.size(1);
  return x.transpose(0, 1).reshape({heads, -1, x.size(3)}).narrow(1, 0, length).narrow(2, 0, dim);
}

}  // namespace

KvPages make_kv_pages(int64_t count, int64_t kv_heads, int64_t head_dim, at::ScalarType type,
                      at::Device device) {
  const auto options = at::TensorOptions().device(device);
  KvPages pages;
  pages.keys = at::empty({count, kv_heads, head_dim, kPageTokens}, options.dtype(type));
  pages.values = at::empty({count, kv_heads, kPageTokens, padded(head_dim)}, options.dtype(type));
  if (type != at::kChar) return pages;
  pages.key_scales = at::empty({count, kv_heads, kPageTokens}, options.dtype(at::kFloat));
  pages.value_scales = at::empty_like(pages.key_scales);
  return pages;
}

void write_pages(const KvPages& pages, const at::Tensor& keys, const at::Tensor& values,
                 std::span<const PagedRows> sequences) {
  const at::ScalarType stored = pages.keys.scalar_type();
  const bool own =
      keys.is_cpu() && (stored == at::kFloat || stored == at::kBFloat16 || stored == at::kChar);
  if (!own) return write_pages_by_index(pages, keys, values, sequences);
  const bool wide = stored == at::kFloat || keys.scalar_type() != at::kBFloat16;
  const at::ScalarType type = stored == at::kChar ? (wide ? at::kFloat : at::kBFloat16) : stored;
  const at::Tensor k = keys.to(type).contiguous(), v = values.to(type).contiguous();
  for (const PagedRows& sequence : sequences) {
    if (stored == at::kFloat)
      store_tokens<float, float>(pages, k, v, sequence);
    else if (stored == at::kBFloat16)
      store_tokens<c10::BFloat16, c10::BFloat16>(pages, k, v, sequence);
    else if (wide)
      store_tokens<float, int8_t>(pages, k, v, sequence);
    else
      store_tokens<c10::BFloat16, int8_t>(pages, k, v, sequence);
  }
}

void write_pages_by_index(const KvPages& pages, const at::Tensor& k, const at::Tensor& v,
                          std::span<const PagedRows> sequences) {
  using at::indexing::Slice;
  const int64_t beyond = pages.values.size(3) - v.size(2);
  for (const PagedRows& sequence : sequences) {
    const auto places = places_of(sequence, pages.keys.device());
    const auto write = [&, &page = places.first, &slot = places.second](const at::Tensor& x,
                                                                        bool keys) {
      const at::Tensor rows = x.narrow(0, sequence.first_row, sequence.rows);
      auto [codes, scale] = quantized(rows, pages.keys.scalar_type());
      at::Tensor to = keys ? pages.keys.transpose(2, 3) : pages.values;
      if (!keys && beyond > 0) codes = at::pad(codes, {0, beyond});
      to.index_put_({page, Slice(), slot}, codes);
      at::Tensor scales = keys ? pages.key_scales : pages.value_scales;
      if (scale.defined()) scales.index_put_({page, Slice(), slot}, scale);
    };
    write(k, true);
    write(v, false);
  }
}

at::Tensor paged_attention_by_gather(const at::Tensor& q, const KvPages& pages,
                                     std::span<const PagedRows> sequences) {
  at::Tensor out = at::empty_like(q);
  const at::ScalarType type = product_type(q);
  for (const PagedRows& sequence : sequences) {
    const int64_t rows = sequence.rows, length = sequence.length, dim = q.size(2);
    const std::vector<int64_t> numbers(sequence.table,
                                       sequence.table + (length + kPageTokens - 1) / kPageTokens);
    const at::Tensor table = at::tensor(numbers).to(q.device());
    const at::Tensor k = gathered(pages.keys, pages.key_scales, true, length, dim, table, type);
    const at::Tensor v =
        gathered(pages.values, pages.value_scales, false, length, dim, table, type);
    std::optional<at::Tensor> mask;  // row i sees tokens 0 .. length - rows + i
    if (rows > 1 && rows < length)
      mask = at::ones({rows, length}, q.options().dtype(at::kBool)).tril(length - rows);
    const at::Tensor queries = q.narrow(0, sequence.first_row, rows).to(type).transpose(0, 1);
    const at::Tensor mixed = at::scaled_dot_product_attention(
        queries.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), mask, /*dropout_p=*/0.0,
        /*is_causal=*/rows > 1 && rows == length, /*scale=*/{},
        /*enable_gqa=*/q.size(1) != pages.keys.size(1));
    out.narrow(0, sequence.first_row, rows).copy_(mixed.squeeze(0).transpose(0, 1));
  }
  return out;
}

}  // namespace llama2zh
