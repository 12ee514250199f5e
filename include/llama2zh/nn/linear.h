#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace llama2zh {

// The low-rank update of one Linear: scaling * B A. Both are fp32 masters whatever the base's type.
struct Lora {
  at::Tensor a;  // [r, in]
  at::Tensor b;  // [out, r]
  double scaling = 1;
  double dropout = 0;  // on the branch's input, in training only
};

// y = x W^T (+ scaling * (dropout(x) A^T) B^T), without bias. The weight may be frozen (any float
// type, possibly memory-mapped) or trained (an fp32 master); it is cast to x's type when they
// differ. x [..., in] -> [..., out] in x's type.
class Linear {
 public:
  at::Tensor weight;  // [out, in]
  std::optional<Lora> lora;

  at::Tensor forward(const at::Tensor& x, bool training) const;
  int64_t in_features() const { return weight.size(1); }
  int64_t out_features() const { return weight.size(0); }
};

}  // namespace llama2zh
