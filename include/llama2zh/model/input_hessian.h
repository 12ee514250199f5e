#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

// What the inputs x of a linear layer were on calibration text, as sums over its rows.
class InputHessian {
 public:
  void add(const at::Tensor& x);                  // [..., in] of any float type
  const at::Tensor& sum() const { return sum_; }  // of x^T x: [in, in] fp32; undefined before add()
  at::Tensor mean_magnitudes() const;             // of |x|: [in] fp32
  int64_t rows() const { return rows_; }
  // The same of x / scales, [in] fp32.
  void divide_inputs(const at::Tensor& scales);

 private:
  at::Tensor sum_, magnitudes_;
  int64_t rows_ = 0;
};

}  // namespace llama2zh
