#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {

// A frozen weight [out, in] as libtorch's products of narrow weights take it, for devices that the
// project's own kernels do not run on: answers read 8 or 4 bits a number there too. Of 4 bits any
// matrix has such a form (_weight_int4pack_mm; one scale a row becomes one for 128 neighbours), of 8
// bits a symmetric one with a scale a row (_weight_int8pack_mm). Scales and zeros are rounded to
// bfloat16, as these operators want them; activations stay bfloat16.
class OperatorWeight {
 public:
  // nullopt where there is no such form, or where the device's operators are missing or give other
  // results than the dequantized weight in a small trial (older GPUs); the log says so once for each
  // kind of weight.
  static std::optional<OperatorWeight> make(const QuantizedMatrix& matrix, at::Device device);

  // x [n, in] bfloat16 on the device, n >= 0 -> x W^T [n, out] in bfloat16; no autograd.
  at::Tensor product(const at::Tensor& x) const;
  uint64_t bytes() const;

 private:
  OperatorWeight() = default;
  static OperatorWeight packed(const QuantizedMatrix& matrix, at::Device device);
  static bool works(int bits, int64_t group_size, at::Device device);

  int64_t out_ = 0;
  int bits_ = 4;
  int64_t padded_in_ = 0;
  int64_t group_size_ = 0;  // of 4 bits
  at::Tensor codes_;        // 4 bits: as the operator packs them; 8 bits: int8 [out, padded_in]
  at::Tensor scales_;       // 4 bits: [groups, out, 2], scale and offset; 8 bits: [out]
  at::Tensor columns_;      // as QuantizedMatrix's, or undefined
};

}  // namespace llama2zh
