// Keys and values of one sequence, a layer: [capacity, nk, d], of which the first length() rows are
// valid. A forward pass over T tokens writes rows length() .. length()+T-1 of each layer and
// attends over all rows up to there; length() grows only when the last layer has written, so that a
// pass that fails halfway leaves the cache as it was.
#include "llama2zh/engine/kv_cache.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/kernels/attention.h"

namespace llama2zh {
namespace {

constexpr int64_t kFirstCapacity = 256;

}  // namespace

KvCache::KvCache(const LlamaConfig& config, at::ScalarType dtype, at::Device device)
    : keys_(static_cast<size_t>(config.num_hidden_layers)),
      values_(static_cast<size_t>(config.num_hidden_layers)),
      max_length_(config.context_length()),
      shape_{config.num_key_value_heads, config.head_dim},
      dtype_(dtype),
      device_(device) {}

void KvCache::begin(int64_t tokens) {
  if (tokens < 1 || length_ + tokens > max_length_) {
    fail_data("context", cat(tokens, " tokens after ", length_,
                             " do not fit into the model's context of ", max_length_));
  }
  reserve(length_ + tokens);
  pending_ = tokens;
  positions_ =
      at::arange(length_, length_ + tokens, at::TensorOptions().dtype(at::kLong).device(device_));
}

void KvCache::truncate(int64_t length) {
  length_ = std::clamp<int64_t>(length, 0, length_);
  pending_ = 0;
}

at::Tensor KvCache::attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v) {
  at::Tensor& keys = keys_[static_cast<size_t>(layer)];
  at::Tensor& values = values_[static_cast<size_t>(layer)];
  keys.narrow(0, length_, pending_).copy_(k);
  values.narrow(0, length_, pending_).copy_(v);
  const int64_t total = length_ + pending_;
  if (layer + 1 == static_cast<int64_t>(keys_.size())) {
    length_ = total;
    pending_ = 0;
  }
  return cached_attention(q, keys.narrow(0, 0, total), values.narrow(0, 0, total));
}

void KvCache::reserve(int64_t tokens) {
  if (tokens <= capacity_) return;
  const int64_t capacity = std::min(
      max_length_, std::max({tokens, 2 * capacity_, std::min(kFirstCapacity, max_length_)}));
  const auto options = at::TensorOptions().dtype(dtype_).device(device_);
  for (std::vector<at::Tensor>* side : {&keys_, &values_}) {
    for (at::Tensor& rows : *side) {
      at::Tensor grown = at::empty({capacity, shape_[0], shape_[1]}, options);
      if (length_ > 0) grown.narrow(0, 0, length_).copy_(rows.narrow(0, 0, length_));
      rows = grown;
    }
  }
  capacity_ = capacity;
}

}  // namespace llama2zh
