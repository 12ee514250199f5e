// A linear layer with an optional low-rank update (Hu et al. 2021). The masters of A and B are cast
// to the product's type, as PyTorch's autocast does; scaling is applied to the narrow [.., r] intermediate.
// DoRA (Liu et al. 2024) with g = m / n as PEFT computes it; dropout(x) = d also reaches the base's
// share of the change: y = W x + (g - 1) W d + g scaling B A d.
#include "llama2zh/nn/linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "llama2zh/kernels/few_row_product.h"
#include "llama2zh/kernels/product.h"
#include "llama2zh/nn/row_adapters.h"
#include "nn/lora_product.h"

namespace llama2zh {
namespace {

constexpr int64_t kFp32Rows = 256;  // only these exist in fp32

// rows_of(begin, count) are the weight's in fp32.
template <typename Rows>
at::Tensor squares_of_rows(int64_t out, const at::TensorOptions& options, const Rows& rows_of) {
  const at::NoGradGuard no_grad;
  at::Tensor result = at::empty({out}, options.dtype(at::kFloat));
  for (int64_t begin = 0; begin < out; begin += kFp32Rows) {
    const int64_t rows = std::min(kFp32Rows, out - begin);
    result.narrow(0, begin, rows).copy_(rows_of(begin, rows).square().sum(1));
  }
  return result;
}

// cross: A W^T [r, out]
at::Tensor norm_of_update(const at::Tensor& cross, const at::Tensor& a, const Lora& lora) {
  const at::Tensor b = lora.b.to(at::kFloat);
  const at::Tensor update = b.mm(a.mm(a.t()));  // [out, r]
  const at::Tensor both = (cross.t() * 2 + update * lora.scaling).mul_(b).sum(1);
  return (lora.base_squares + both * lora.scaling).clamp_min_(0).sqrt_();
}

}  // namespace

at::Tensor row_squares(const at::Tensor& weight) {
  return squares_of_rows(weight.size(0), weight.options(), [&](int64_t begin, int64_t rows) {
    return weight.narrow(0, begin, rows).to(at::kFloat);
  });
}

at::Tensor row_squares(const Linear& linear) {
  if (!linear.quantized) return row_squares(linear.weight);
  const QuantizedMatrix& matrix = *linear.quantized;
  return squares_of_rows(matrix.out, matrix.codes.options(), [&](int64_t begin, int64_t rows) {
    return dequantize(matrix, begin, rows, at::kFloat);
  });
}

at::Tensor dora_weight_norm(const at::Tensor& weight, const Lora& lora) {
  const at::NoGradGuard no_grad;
  const at::Tensor a = lora.a.to(at::kFloat);
  return norm_of_update(linear_product(a, weight), a, lora);
}

at::Tensor dora_weight_norm(const Linear& linear, const Lora& lora) {
  if (!linear.quantized) return dora_weight_norm(linear.weight, lora);
  const at::NoGradGuard no_grad;
  const at::Tensor a = lora.a.to(at::kFloat);
  return norm_of_update(dequantized_product(a, *linear.quantized), a, lora);
}

at::Tensor Linear::base_product(const at::Tensor& x) const {
  if (observe) observe(x);
  if (operators && x.scalar_type() == at::kBFloat16 &&
      !(at::GradMode::is_enabled() && x.requires_grad())) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = out_features();
    return operators->product(x.reshape({-1, x.size(-1)})).view(shape);
  }
  return quantized ? quantized_linear(x, *quantized, activations) : linear_product(x, weight);
}

at::Tensor Linear::forward(const at::Tensor& x, bool training) const {
  const at::Tensor input = x.to(product_type(x));
  at::Tensor y = own_forward(input, training);
  if (!RowAdapters::active().empty()) add_row_adapters(*this, input, y);
  return y.to(x.scalar_type());
}

// input and result in the type of the product
at::Tensor Linear::own_forward(const at::Tensor& input, bool training) const {
  const bool dora = lora && lora->magnitude.defined();
  if (lora && !dora && input.is_cpu() && (quantized || !weight.requires_grad())) {
    std::vector<int64_t> shape = input.sizes().vec();
    shape.back() = out_features();
    return lora_product(input.reshape({-1, input.size(-1)}), *this, training ? lora->dropout : 0)
        .view(shape);
  }
  at::Tensor base = base_product(input);
  if (!lora) return base;
  const bool drops = training && lora->dropout > 0;
  const at::Tensor branch = drops ? at::dropout(input, lora->dropout, /*train=*/true) : input;
  const at::ScalarType type = input.scalar_type();
  const bool invariant = InvariantProducts::active() && !at::GradMode::is_enabled();
  const at::Tensor a = lora->a.to(type), b = lora->b.to(type);
  const at::Tensor low =
      (invariant ? linear_product(branch, a) : at::linear(branch, a)) * lora->scaling;
  const at::Tensor onto = dora && drops ? base_product(branch) : base;
  at::Tensor y =
      invariant ? onto + linear_product(low, b)
                : at::addmm(onto.view({-1, base.size(-1)}), low.view({-1, low.size(-1)}), b.t())
                      .view(base.sizes());
  if (dora) {
    const at::Tensor& fixed = lora->weight_norm;
    const at::Tensor norm = fixed.defined() ? fixed : dora_weight_norm(*this, *lora);
    y = y * (lora->magnitude / norm).to(type);
    if (drops) y = base + y - onto;
  }
  return y;
}

namespace {

// Whether products of these and one input can be formed together: all dense, or all quantized with
// the same treatment of their input, and nothing beside.
bool go_together(std::span<const Linear* const> linears) {
  const Linear& first = *linears.front();
  return std::all_of(linears.begin(), linears.end(), [&](const Linear* linear) {
    const bool plain = !linear->lora && !linear->observe && !linear->operators;
    const bool alike = !linear->quantized == !first.quantized;
    return plain && alike && (!linear->quantized || linear->activations == first.activations);
  });
}

std::vector<at::Tensor> joined_products(std::span<const Linear* const> linears, const at::Tensor& x,
                                        const QuantizedInput& codes) {
  if (!linears.front()->quantized) {
    std::vector<at::Tensor> weights;
    for (const Linear* linear : linears) weights.push_back(linear->weight);
    return linear_products(x, weights);
  }
  std::vector<const QuantizedMatrix*> matrices;
  for (const Linear* linear : linears) matrices.push_back(linear->quantized.get());
  return quantized_products(x, matrices, linears.front()->activations, &codes);
}

}  // namespace

std::vector<at::Tensor> forward_together(std::span<const Linear* const> linears,
                                         const NormedInput& input, bool training) {
  std::vector<at::Tensor> results;
  const at::Tensor x = input.x.to(product_type(input.x));
  if (!at::GradMode::is_enabled() && x.dim() == 2 && go_together(linears))
    results = joined_products(linears, x, input.codes);
  if (results.empty()) {
    for (const Linear* linear : linears) results.push_back(linear->forward(input.x, training));
    return results;
  }
  for (size_t i = 0; i < linears.size(); ++i) {
    if (!RowAdapters::active().empty()) add_row_adapters(*linears[i], x, results[i]);
    results[i] = results[i].to(input.x.scalar_type());
  }
  return results;
}

std::optional<InputFormat> wanted_input(std::span<const Linear* const> linears) {
  const Linear& first = *linears.front();
  const bool wants = go_together(linears) && first.quantized &&
                     first.quantized->device().is_cpu() &&
                     first.activations == Activations::kInt8 && !first.quantized->columns.defined();
  if (!wants) return {};
  return InputFormat::of(*first.quantized);
}

}  // namespace llama2zh
