// Packed sequences: positions restart at every boundary, attention never crosses one.
#include "llama2zh/nn/attention_context.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include <utility>

#include "llama2zh/kernels/attention.h"

namespace llama2zh {

PackedSequences::PackedSequences(std::vector<int64_t> boundaries, at::Device device)
    : boundaries_(std::move(boundaries)) {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < boundaries_.size(); ++i) {
    parts.push_back(at::arange(boundaries_[i + 1] - boundaries_[i], at::kLong));
  }
  positions_ = at::cat(parts).to(device);
}

at::Tensor PackedSequences::attend(int64_t, const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v) {
  return packed_attention(q, k, v, boundaries_);
}

}  // namespace llama2zh
