// Products with quantized weights: activations are prepared once for all columns (and for all matrices
// of one input), then threads take runs of column blocks. With a gradient wanted the weight is dequantized a few rows at a time, for
// libtorch's product.
#include "kernels/quantized_product.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/joined_columns.h"
#include "kernels/quantized_activations.h"
#include "kernels/quantized_float.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {
namespace {

constexpr int64_t kProductsAtOnce = 128 * 1024;    // multiply-adds worth a thread
constexpr int64_t kDecodedElements = 1024 * 1024;  // dequantized at a time on a CPU, for backward

ProductOutput output_of(at::Tensor& y) {
  return {y.data_ptr(), y.scalar_type() == at::kBFloat16, y.size(1)};
}

void check_input(const at::Tensor& x, const QuantizedMatrix& matrix) {
  matrix.check("quantized_product");
  const bool type = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  if (!x.is_cpu() || !type || x.dim() != 2 || x.size(1) != matrix.in) {
    fail_data("quantized_product",
              cat("x is ", c10::toString(x.scalar_type()), " of ", x.dim(), " dimensions, ",
                  x.dim() > 0 ? x.size(-1) : 0, " wide; expected [n, ", matrix.in,
                  "] in fp32 or bfloat16 in host memory"));
  }
}

// x [n, in] with its columns in the order of the codes.
at::Tensor by_codes(const at::Tensor& x, const QuantizedMatrix& matrix) {
  return matrix.columns.defined() ? x.index_select(1, matrix.columns) : x.contiguous();
}

at::Tensor padded_floats(const at::Tensor& x, int64_t width) {
  if (x.scalar_type() == at::kFloat && x.size(1) == width) return x;
  const auto options = x.options().dtype(at::kFloat);
  at::Tensor result = x.size(1) == width ? at::empty({x.size(0), width}, options)
                                         : at::zeros({x.size(0), width}, options);
  result.narrow(1, 0, x.size(1)).copy_(x);
  return result;
}

template <typename T>
void decode_row(const PackedWeight& weight, int64_t row, int64_t in, T* out) {
  const int64_t block = row / kBlockColumns, column = row % kBlockColumns;
  const uint8_t* codes = weight.codes + block * weight.block_bytes + 4 * column;
  for (int64_t g = 0; g < weight.groups; ++g) {
    const int64_t at =
        kBlockColumns * (weight.row_scales ? block : block * weight.groups + g) + column;
    const float scale =
        weight.row_scales ? weight.row_scales[at] : static_cast<float>(weight.group_scales[at]);
    const int zero = weight.zeros ? weight.zeros[at] : weight.middle();
    const int64_t last = std::min(in, (g + 1) * weight.group);
    for (int64_t k = g * weight.group; k < last; ++k) {
      int code;
      if (weight.bits == 8) {
        code = codes[16 * (k & ~int64_t{3}) + (k & 3)];
      } else {
        const int both = codes[8 * (k & ~int64_t{7}) + (k & 3)];
        code = (k & 4) != 0 ? both >> 4 : both & 15;
      }
      out[k] = static_cast<T>(static_cast<float>(code - zero) * scale);
    }
  }
}

// Calls step(first row, rows, block in x's type and on its device) for all of the weight.
template <typename Step>
void for_decoded(const QuantizedMatrix& matrix, const at::Tensor& x, const Step& step) {
  const int64_t elements = x.is_cpu() ? kDecodedElements : kDecodedOnDevice;
  const int64_t at_once = std::max<int64_t>(64, elements / matrix.in);
  for (int64_t begin = 0; begin < matrix.out; begin += at_once) {
    const int64_t count = std::min(at_once, matrix.out - begin);
    step(begin, count, dequantize(matrix, begin, count, x.scalar_type()).to(x.device()));
  }
}

class QuantizedLinear : public torch::autograd::Function<QuantizedLinear> {
 public:
  // x [n, in]
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const QuantizedMatrix& matrix) {
    ctx->save_for_backward({matrix.codes, matrix.scales, matrix.zeros, matrix.columns});
    ctx->saved_data["shape"] =
        std::vector<int64_t>{matrix.out, matrix.in, matrix.bits, matrix.group_size};
    return dequantized_product(x, matrix);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const std::vector<int64_t> shape = ctx->saved_data["shape"].toIntVector();
    const QuantizedMatrix matrix{shape[0], shape[1], static_cast<int>(shape[2]),
                                 shape[3], saved[0], saved[1],
                                 saved[2], saved[3]};
    return {quantized_input_grad(grads[0], matrix), at::Tensor()};
  }
};

}  // namespace

PackedWeight packed_weight(const QuantizedMatrix& matrix) {
  PackedWeight weight{};
  weight.codes = matrix.codes.const_data_ptr<uint8_t>();
  if (matrix.per_row()) {
    weight.row_scales = matrix.scales.const_data_ptr<float>();
  } else {
    weight.group_scales = matrix.scales.const_data_ptr<c10::Half>();
  }
  if (matrix.zeros.defined()) weight.zeros = matrix.zeros.const_data_ptr<uint8_t>();
  weight.out = matrix.out;
  weight.group = matrix.per_row() ? kRowGroup : matrix.group_size;
  weight.groups = matrix.padded_in() / weight.group;
  weight.block_bytes = matrix.block_bytes();
  weight.bits = matrix.bits;
  return weight;
}

namespace {

// Blocks worth a thread; those of several matrices are alike wide.
int64_t blocks_at_once(const QuantizedMatrix& matrix, int64_t rows) {
  return std::max<int64_t>(1, kProductsAtOnce / (kBlockColumns * matrix.padded_in() * rows));
}

// What one product of several works on.
struct JoinedProduct {
  PackedWeight weight;
  ProductOutput out;
  size_t input;  // which of the prepared ones
};

std::vector<int64_t> block_counts(std::span<const QuantizedMatrix* const> matrices) {
  std::vector<int64_t> counts;
  for (const QuantizedMatrix* matrix : matrices) counts.push_back(matrix->blocks());
  return counts;
}

std::vector<at::Tensor> int8_products(const at::Tensor& x,
                                      std::span<const QuantizedMatrix* const> matrices,
                                      Int8Product product, const QuantizedInput* prepared) {
  std::vector<at::Tensor> results;
  std::vector<JoinedProduct> products;
  std::vector<QuantizedInput> made;
  std::vector<Int8Activations> inputs;
  const auto same_codes = [](const QuantizedInput& input, const QuantizedMatrix& matrix) {
    return !matrix.columns.defined() && input.format == InputFormat::of(matrix);
  };
  const bool has_prepared = prepared != nullptr && !prepared->empty();
  if (has_prepared && prepared->rows != x.size(0))
    fail_data("quantized_products", cat("codes of ", prepared->rows, " rows for ", x.size(0)));
  if (has_prepared) inputs.push_back(activations_of(*prepared));
  const size_t given = inputs.size();
  const QuantizedMatrix* last = nullptr;  // for whom the last input was made
  for (const QuantizedMatrix* matrix : matrices) {
    check_input(x, *matrix);
    results.push_back(at::empty({x.size(0), matrix->out}, x.options()));
    products.push_back({packed_weight(*matrix), output_of(results.back()), 0});
    if (x.size(0) == 0 || (given > 0 && same_codes(*prepared, *matrix))) continue;
    if (last == nullptr || last->columns.defined() || !same_codes(made.back(), *matrix)) {
      made.push_back(quantize_input(by_codes(x, *matrix), InputFormat::of(*matrix)));
      inputs.push_back(activations_of(made.back()));
      last = matrix;
    }
    products.back().input = inputs.size() - 1;
  }
  if (inputs.empty()) return results;
  for_joined_columns(block_counts(matrices), blocks_at_once(*matrices.front(), x.size(0)),
                     [&](size_t which, int64_t first, int64_t last_block) {
                       const JoinedProduct& one = products[which];
                       product(one.weight, inputs[one.input], first, last_block, one.out);
                     });
  return results;
}

at::Tensor float_activations_product(const at::Tensor& x, const QuantizedMatrix& matrix) {
  check_input(x, matrix);
  const PackedWeight weight = packed_weight(matrix);
  const at::Tensor in = padded_floats(by_codes(x, matrix), weight.padded_in());
  at::Tensor y = at::empty({x.size(0), matrix.out}, x.options());
  if (y.numel() == 0) return y;
  const ProductOutput out = output_of(y);
  const auto* rows = in.const_data_ptr<float>();
  at::parallel_for(0, matrix.blocks(), blocks_at_once(matrix, x.size(0)),
                   [&](int64_t first, int64_t last) {
                     float_product(weight, rows, x.size(0), first, last, out);
                   });
  return y;
}

}  // namespace

at::Tensor quantized_product_with(const at::Tensor& x, const QuantizedMatrix& matrix,
                                  Int8Product product) {
  const QuantizedMatrix* const one = &matrix;
  return int8_products(x, {&one, 1}, product, nullptr).front();
}

std::vector<at::Tensor> quantized_products(const at::Tensor& x,
                                           std::span<const QuantizedMatrix* const> matrices,
                                           Activations activations,
                                           const QuantizedInput* prepared) {
  if (!x.is_cpu()) {
    std::vector<at::Tensor> results;
    for (const QuantizedMatrix* matrix : matrices)
      results.push_back(dequantized_product(x, *matrix));
    return results;
  }
  if (activations == Activations::kInt8)
    return int8_products(x, matrices, int8_product_for(kernel_isa()), prepared);
  std::vector<at::Tensor> results;
  for (const QuantizedMatrix* matrix : matrices)
    results.push_back(float_activations_product(x, *matrix));
  return results;
}

at::Tensor quantized_product(const at::Tensor& x, const QuantizedMatrix& matrix,
                             Activations activations) {
  const QuantizedMatrix* const one = &matrix;
  return quantized_products(x, {&one, 1}, activations).front();
}

namespace {

bool has_decoder(const QuantizedMatrix& matrix, at::ScalarType type) {
  return matrix.device().is_cpu() && (type == at::kFloat || type == at::kBFloat16);
}

// [count, in]; row_of(i) is the weight's row that becomes row i.
template <typename RowOf>
at::Tensor decoded(const QuantizedMatrix& matrix, int64_t count, at::ScalarType type,
                   const RowOf& row_of) {
  const PackedWeight weight = packed_weight(matrix);
  at::Tensor result = at::empty({count, matrix.in}, at::device(at::kCPU).dtype(type));
  const auto decode = [&](auto* out) {
    at::parallel_for(0, count, 16, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        decode_row(weight, row_of(i), matrix.in, out + i * matrix.in);
    });
  };
  if (type == at::kFloat)
    decode(result.data_ptr<float>());
  else
    decode(result.data_ptr<c10::BFloat16>());
  if (!matrix.columns.defined()) return result;
  return at::empty_like(result).index_copy_(1, matrix.columns, result);
}

}  // namespace

at::Tensor dequantize(const QuantizedMatrix& matrix, int64_t begin, int64_t count,
                      at::ScalarType type) {
  if (!has_decoder(matrix, type)) return dequantize_by_operators(matrix, begin, count, type);
  return decoded(matrix, count, type, [&](int64_t i) { return begin + i; });
}

at::Tensor dequantize_rows(const QuantizedMatrix& matrix, const at::Tensor& rows,
                           at::ScalarType type) {
  if (!has_decoder(matrix, type)) return dequantize_rows_by_operators(matrix, rows, type);
  const int64_t* numbers = rows.const_data_ptr<int64_t>();
  return decoded(matrix, rows.size(0), type, [&](int64_t i) { return numbers[i]; });
}

at::Tensor dequantized_product(const at::Tensor& x, const QuantizedMatrix& matrix) {
  if (x.is_cpu()) check_input(x, matrix);
  at::Tensor y = at::empty({x.size(0), matrix.out}, x.options());
  for_decoded(matrix, x, [&](int64_t begin, int64_t count, const at::Tensor& block) {
    at::Tensor part = y.narrow(1, begin, count);
    at::mm_out(part, x, block.t());
  });
  return y;
}

at::Tensor quantized_input_grad(const at::Tensor& y_grad, const QuantizedMatrix& matrix) {
  at::Tensor x_grad = at::zeros({y_grad.size(0), matrix.in}, y_grad.options().dtype(at::kFloat));
  for_decoded(matrix, y_grad, [&](int64_t begin, int64_t count, const at::Tensor& block) {
    x_grad.add_(at::mm(y_grad.narrow(1, begin, count), block));
  });
  return x_grad.to(y_grad.scalar_type());
}

at::Tensor quantized_linear(const at::Tensor& x, const QuantizedMatrix& matrix,
                            Activations activations) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = matrix.out;
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  if (at::GradMode::is_enabled() && x.requires_grad()) {
    return QuantizedLinear::apply(rows, matrix).view(shape);
  }
  return quantized_product(rows, matrix, activations).view(shape);
}

}  // namespace llama2zh
