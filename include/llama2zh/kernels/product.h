#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

namespace llama2zh {

// The type in which products of x are formed. It is x's own, except for bfloat16 on a processor
// without instructions for it (x86 before AVX-512), where libtorch's product is some 30 times
// slower than converting to float32 on the fly.
at::ScalarType product_type(const at::Tensor& x);

// The same for products of many rows with a matrix. float32 also for bfloat16 on processors that
// multiply bfloat16, but float32 faster: there the matrix is converted a block at a time, and sums
// are rounded once, at the end.
at::ScalarType large_product_type(const at::Tensor& x);
// Whether this processor is such a one.
bool float_products_are_faster();

// Whether this processor multiplies bfloat16 at least as fast as float32.
bool has_fast_bfloat16();

// y = x W^T for x [..., in] and a weight [out, in] of any float type: [..., out] in x's type.
// It is formed in large_product_type(x); where the weight's type is another, the weight is cast a few
// rows at a time on a CPU (whole on a GPU), and again in backward(): no converted copy of a frozen or memory-mapped matrix outlives the call.
// The weight's gradient comes in the weight's type.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight);

// Products of one x [n, in] with several weights, without gradient, as if each were alone; together
// where our own kernel for few rows takes them.
std::vector<at::Tensor> linear_products(const at::Tensor& x, std::span<const at::Tensor> weights);

// The gradient y_grad W [n, in] of its input, in y_grad's type. y_grad [n, out].
at::Tensor product_input_grad(const at::Tensor& y_grad, const at::Tensor& weight);

}  // namespace llama2zh
