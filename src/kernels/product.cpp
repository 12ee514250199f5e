#include "llama2zh/kernels/product.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "kernels/isa.h"
#include "llama2zh/base/error.h"
#include "llama2zh/kernels/few_row_product.h"

namespace llama2zh {
namespace {

constexpr int64_t kBlockElements = 2048 * 1024;  // converted at a time: stays in the caches
constexpr int64_t kFewFloatRows = 96;            // for fewer, converting the weight costs more

bool detect_fast_bfloat16() {
#if defined(__x86_64__)
  // What oneDNN asks for before it takes a bfloat16 product.
  return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq");
#else
  return true;
#endif
}

// Intel's cores without AMX (or under a hypervisor that hides it) take a bfloat16 dot product every
// other cycle and two float32 ones a cycle: measured 166 and 318 GFLOP/s. AMD's take both at full rate.
// The environment variable LLAMA2ZH_LARGE_PRODUCTS (float32, bfloat16) decides for tests.
bool detect_faster_float() {
  const char* wanted = std::getenv("LLAMA2ZH_LARGE_PRODUCTS");
  if (wanted != nullptr && *wanted != '\0') {
    const std::string type = wanted;
    if (type != "float32" && type != "bfloat16") {
      fail_usage("LLAMA2ZH_LARGE_PRODUCTS", "'" + type + "': expected float32 or bfloat16");
    }
    return type == "float32";
  }
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") && __builtin_cpu_supports("avx512bf16") && !has_amx_bf16();
#else
  return false;
#endif
}

int64_t block_rows(const at::Tensor& weight) {
  if (!weight.is_cpu()) return weight.size(0);
  return std::max<int64_t>(16, kBlockElements / weight.size(1));
}

// Calls step(first row, rows, block in `type`) for all of the weight.
template <typename Step>
void for_blocks(const at::Tensor& weight, at::ScalarType type, const Step& step) {
  const int64_t rows = weight.size(0), at_once = block_rows(weight);
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    const int64_t count = std::min(at_once, rows - begin);
    step(begin, count, weight.narrow(0, begin, count).to(type));
  }
}

// y = x W^T formed in `type`, in x's own type. x is kept as it is, for it may be narrower.
class CastProduct : public torch::autograd::Function<CastProduct> {
 public:
  // x [n, in]
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& weight, at::ScalarType type) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["type"] = static_cast<int64_t>(type);
    const at::Tensor input = x.to(type);
    at::Tensor y = at::empty({x.size(0), weight.size(0)}, input.options());
    for_blocks(weight, type, [&](int64_t begin, int64_t count, const at::Tensor& block) {
      at::Tensor part = y.narrow(1, begin, count);
      at::mm_out(part, input, block.t());
    });
    return y.to(x.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const auto type = static_cast<at::ScalarType>(ctx->saved_data["type"].toInt());
    const at::Tensor y_grad = grads[0].to(type);
    at::Tensor x_grad, weight_grad;
    if (ctx->needs_input_grad(0)) {
      x_grad = product_input_grad(y_grad, weight).to(x.scalar_type());
    }
    if (ctx->needs_input_grad(1)) {
      weight_grad = at::mm(y_grad.t(), x.to(type)).to(weight.scalar_type());
    }
    return {x_grad, weight_grad, at::Tensor()};
  }
};

bool wants_gradient(const at::Tensor& x, const at::Tensor& weight) {
  return at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
}

// By our own kernel where it is the faster one or insisted on; undefined otherwise.
at::Tensor product_for_inference(const at::Tensor& x, const at::Tensor& weight) {
  const bool invariant = InvariantProducts::active();
  if (!invariant && x.numel() > few_rows(x) * x.size(-1)) return {};
  at::Tensor own = weight;
  if (invariant && x.is_cpu() && !has_few_row_product(x, weight)) {
    own = weight.to(x.scalar_type()).contiguous();
  }
  if (!has_few_row_product(x, own)) return {};
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return few_row_product(x.reshape({-1, x.size(-1)}), own).view(shape);
}

}  // namespace

bool has_fast_bfloat16() {
  static const bool fast = detect_fast_bfloat16();
  return fast;
}

at::ScalarType product_type(const at::Tensor& x) {
  const bool slow = x.is_cpu() && x.scalar_type() == at::kBFloat16 && !has_fast_bfloat16();
  return slow ? at::kFloat : x.scalar_type();
}

bool float_products_are_faster() {
  static const bool faster = detect_faster_float();
  return faster;
}

at::ScalarType large_product_type(const at::Tensor& x) {
  const bool wins = float_products_are_faster() && x.is_cpu() && x.scalar_type() == at::kBFloat16 &&
                    x.numel() > kFewFloatRows * x.size(-1);
  return wins ? at::kFloat : product_type(x);
}

// Blocks add up in y_grad's type; a type narrower than fp32 would round once a block, so it is cast
// whole.
at::Tensor product_input_grad(const at::Tensor& y_grad, const at::Tensor& weight) {
  if (y_grad.scalar_type() != at::kFloat || weight.scalar_type() == at::kFloat) {
    return at::mm(y_grad, weight.to(y_grad.scalar_type()));
  }
  at::Tensor x_grad = at::zeros({y_grad.size(0), weight.size(1)}, y_grad.options());
  for_blocks(weight, at::kFloat, [&](int64_t begin, int64_t count, const at::Tensor& block) {
    x_grad.addmm_(y_grad.narrow(1, begin, count), block);
  });
  return x_grad;
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight) {
  if (!wants_gradient(x, weight)) {
    at::Tensor y = product_for_inference(x, weight);
    if (y.defined()) return y;
  }
  const at::ScalarType type = large_product_type(x);
  if (type == weight.scalar_type() && type == x.scalar_type()) return at::linear(x, weight);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return CastProduct::apply(x.reshape({-1, x.size(-1)}), weight, type).view(shape);
}

std::vector<at::Tensor> linear_products(const at::Tensor& x, std::span<const at::Tensor> weights) {
  const bool few = x.dim() == 2 && (InvariantProducts::active() || x.size(0) <= few_rows(x)) &&
                   std::all_of(weights.begin(), weights.end(), [&](const at::Tensor& weight) {
                     return has_few_row_product(x, weight) &&
                            weight.scalar_type() == weights.front().scalar_type();
                   });
  if (few) return few_row_products(x, weights);
  std::vector<at::Tensor> results;
  for (const at::Tensor& weight : weights) results.push_back(linear_product(x, weight));
  return results;
}

}  // namespace llama2zh
