#include "llama2zh/model/input_hessian.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/outer.h>

#include <algorithm>

namespace llama2zh {

void InputHessian::add(const at::Tensor& x) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)}).to(at::kFloat);
  const at::Tensor product = at::mm(rows.t(), rows), magnitudes = rows.abs().sum(0);
  sum_ = sum_.defined() ? sum_.add_(product) : product;
  magnitudes_ = magnitudes_.defined() ? magnitudes_.add_(magnitudes) : magnitudes;
  rows_ += rows.size(0);
}

at::Tensor InputHessian::mean_magnitudes() const {
  return magnitudes_ / static_cast<double>(std::max<int64_t>(rows_, 1));
}

void InputHessian::divide_inputs(const at::Tensor& scales) {
  sum_ = sum_ / at::outer(scales, scales);
  magnitudes_ = magnitudes_ / scales;
}

}  // namespace llama2zh
