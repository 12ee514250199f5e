#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "llama2zh/kernels/operator_weight.h"
#include "llama2zh/kernels/quantized_matrix.h"
#include "llama2zh/kernels/rms_norm.h"

namespace llama2zh {

// The low-rank update of one Linear: scaling * B A. Both are fp32 masters whatever the base's type.
struct Lora {
  at::Tensor a;  // [r, in]
  at::Tensor b;  // [out, r]
  double scaling = 1;
  double dropout = 0;  // on the branch's input, in training only
  // DoRA's m, [out] fp32: row i of W + scaling B A is scaled to the length m[i]. Undefined: LoRA.
  at::Tensor magnitude = {};
  at::Tensor base_squares = {};  // [out] fp32, row_squares(W); with magnitude
  // Lengths of the rows of W + scaling B A where they are known for good, [out] fp32; undefined:
  // computed in every forward pass, as training must.
  at::Tensor weight_norm = {};
};

// Sums of the squares of a matrix's rows, in fp32: [out, in] -> [out].
at::Tensor row_squares(const at::Tensor& weight);
// Lengths of the rows of weight + scaling B A, [out] fp32, without gradient. The sum is never
// formed: |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b^T.
at::Tensor dora_weight_norm(const at::Tensor& weight, const Lora& lora);

// y = x W^T (+ scaling * (dropout(x) A^T) B^T), without bias; with a magnitude m
// y = m / n (W x + scaling B A x), n the row lengths above, through which no gradient flows. The
// weight may be frozen (any float type, possibly memory-mapped) or trained (an fp32 master); it is
// cast to x's type when they differ. x [..., in] -> [..., out] in x's type.
class Linear {
 public:
  at::Tensor weight;  // [out, in]; undefined where `quantized` stands in for it
  // A frozen weight in 8 or 4 bits. Where a gradient is wanted (LoRA on top, or x's own) products
  // take it exactly, dequantized a few rows at a time; else as `activations` says. It may lie in host
  // memory where `operators` multiplies on another device.
  std::shared_ptr<const QuantizedMatrix> quantized;
  Activations activations = Activations::kInt8;
  // That weight once more as its device multiplies it without gradients; null: by `quantized`.
  std::shared_ptr<const OperatorWeight> operators;
  std::optional<Lora> lora;
  // Called with the input of each product, where set: calibration looks at what a layer is given.
  std::function<void(const at::Tensor& x)> observe;

  at::Tensor forward(const at::Tensor& x, bool training) const;
  at::Tensor base_product(const at::Tensor& x) const;  // x W^T alone
  int64_t in_features() const { return quantized ? quantized->in : weight.size(1); }
  int64_t out_features() const { return quantized ? quantized->out : weight.size(0); }

 private:
  at::Tensor own_forward(const at::Tensor& input, bool training) const;
};

// forward() of several Linears of one input, with the same results; without gradients their products are
// formed together.
std::vector<at::Tensor> forward_together(std::span<const Linear* const> linears,
                                         const NormedInput& input, bool training);
// The 8 bits in which those products would like to have their input; nullopt: they don't.
std::optional<InputFormat> wanted_input(std::span<const Linear* const> linears);

// row_squares() and dora_weight_norm() of a Linear's weight, whichever it has; squares lie where it does.
at::Tensor row_squares(const Linear& linear);
at::Tensor dora_weight_norm(const Linear& linear, const Lora& lora);

}  // namespace llama2zh
