// Root mean square normalisation (Zhang and Sennrich 2019) with Hugging Face's order of casts:
//   n = (x * r) in fp32, r = rsqrt(mean(x^2) + eps);  y = n cast to x's type, times w.
// Written as one autograd function, so that a training step keeps x and r [..., 1] instead of half
// a dozen fp32 copies of x. With u = dy * w, h the row length:
//   dx = r * u - x * r^3 * sum(u * x) / h,   dw = sum over rows of dy * n.
// On a CPU a row is read twice and written once, in cache; other devices take libtorch's operators.
#include "llama2zh/kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rsqrt.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "kernels/lanes.h"
#include "kernels/quantized_activations.h"

namespace llama2zh {
namespace {

constexpr int64_t kRowsAtOnce = 16;  // of a thread

// Calls rows(begin, end) for all of [0, count), a few at a time, so that what is done with them
// afterwards finds them in cache.
template <typename Rows>
void for_few_rows(int64_t count, const Rows& rows) {
  at::parallel_for(0, count, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kRowsAtOnce)
      rows(first, std::min(first + kRowsAtOnce, end));
  });
}

template <typename T>
float inverse_rms_of_row(const T* x, int64_t width, double eps) {
  lanes::Floats squares{};
  lanes::for_lanes(width, [&](int64_t i, int64_t count) {
    const lanes::Floats v = lanes::load_up_to(x + i, count);
    squares += v * v;
  });
  return 1.0f /
         std::sqrt(lanes::sum(squares) / static_cast<float>(width) + static_cast<float>(eps));
}

// x [rows, width] -> y, r [rows], and y in 8 bits where `codes` has room for it
template <typename T>
void norm_rows(const T* x, const T* weight, T* y, float* r, int64_t rows, int64_t width, double eps,
               const QuantizedInput& codes) {
  for_few_rows(rows, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t row = begin; row < end; ++row) {
        const T* in = x + row * width;
        T* out = y + row * width;
        r[row] = inverse_rms_of_row(in, width, eps);
        lanes::for_lanes(width, [&](int64_t i, int64_t count) {
          const lanes::Floats n = lanes::rounded_to(in, lanes::load_up_to(in + i, count) * r[row]);
          lanes::store_up_to(out + i, n * lanes::load_up_to(weight + i, count), count);
        });
      }
    });
    if (!codes.empty()) quantize_rows_into(y, begin, end, codes);
  });
}

template <typename T>
void norm_rows_backward(const T* x, const T* weight, const T* dy, const float* r, T* dx,
                        int64_t rows, int64_t width) {
  at::parallel_for(0, rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t row = begin; row < end; ++row) {
        const T *in = x + row * width, *grad = dy + row * width;
        T* out = dx + row * width;
        lanes::Floats products{};
        lanes::for_lanes(width, [&](int64_t i, int64_t count) {
          products += lanes::load_up_to(grad + i, count) * lanes::load_up_to(weight + i, count) *
                      lanes::load_up_to(in + i, count);
        });
        const float scale = r[row];
        const float back = scale * scale * scale * lanes::sum(products) / static_cast<float>(width);
        lanes::for_lanes(width, [&](int64_t i, int64_t count) {
          const lanes::Floats u =
              lanes::load_up_to(grad + i, count) * lanes::load_up_to(weight + i, count);
          lanes::store_up_to(out + i, u * scale - lanes::load_up_to(in + i, count) * back, count);
        });
      }
    });
  });
}

// x, update [rows, width] -> sum = x + update, y = the sum's norm. Rows stay in cache between the two.
template <typename T>
void add_norm_rows(const T* x, const T* update, const T* weight, T* sum, T* y, int64_t rows,
                   int64_t width, double eps, const QuantizedInput& codes) {
  for_few_rows(rows, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t row = begin; row < end; ++row) {
        const T *a = x + row * width, *b = update + row * width;
        T *total = sum + row * width, *out = y + row * width;
        lanes::for_lanes(width, [&](int64_t i, int64_t count) {
          lanes::store_up_to(
              total + i, lanes::load_up_to(a + i, count) + lanes::load_up_to(b + i, count), count);
        });
        const float r = inverse_rms_of_row(total, width, eps);
        lanes::for_lanes(width, [&](int64_t i, int64_t count) {
          const lanes::Floats n = lanes::rounded_to(total, lanes::load_up_to(total + i, count) * r);
          lanes::store_up_to(out + i, n * lanes::load_up_to(weight + i, count), count);
        });
      }
    });
    if (!codes.empty()) quantize_rows_into(y, begin, end, codes);
  });
}

bool has_norm_kernel(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

// Room for the norm of x [n, H] in 8 bits, where it is wanted.
QuantizedInput room_for(const at::Tensor& x, const std::optional<InputFormat>& into) {
  if (!into || x.dim() != 2 || x.size(0) == 0 || into->in != x.size(1)) return {};
  return empty_input(x.size(0), *into);
}

at::Tensor fused_norm(const at::Tensor& x, const at::Tensor& weight, double eps, at::Tensor& r,
                      const QuantizedInput& codes) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  at::Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  r = at::empty({rows, 1}, x.options().dtype(at::kFloat));
  float* inverse = r.data_ptr<float>();
  if (x.scalar_type() == at::kFloat) {
    norm_rows(x.const_data_ptr<float>(), weight.const_data_ptr<float>(), y.data_ptr<float>(),
              inverse, rows, width, eps, codes);
  } else {
    norm_rows(x.const_data_ptr<c10::BFloat16>(), weight.const_data_ptr<c10::BFloat16>(),
              y.data_ptr<c10::BFloat16>(), inverse, rows, width, eps, codes);
  }
  return y;
}

at::Tensor fused_norm_backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                               const at::Tensor& r) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  at::Tensor dx = at::empty_like(x, at::MemoryFormat::Contiguous);
  const float* inverse = r.const_data_ptr<float>();
  if (x.scalar_type() == at::kFloat) {
    norm_rows_backward(x.const_data_ptr<float>(), weight.const_data_ptr<float>(),
                       dy.const_data_ptr<float>(), inverse, dx.data_ptr<float>(), rows, width);
  } else {
    norm_rows_backward(x.const_data_ptr<c10::BFloat16>(), weight.const_data_ptr<c10::BFloat16>(),
                       dy.const_data_ptr<c10::BFloat16>(), inverse, dx.data_ptr<c10::BFloat16>(),
                       rows, width);
  }
  return dx;
}

at::Tensor plain_norm_backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                               const at::Tensor& r) {
  const at::Tensor x32 = x.to(at::kFloat);
  const at::Tensor u = dy.to(at::kFloat) * weight.to(at::kFloat);
  const at::Tensor mean = (u * x32).mean(-1, /*keepdim=*/true);
  return (u * r).sub_(x32 * (r.pow(3) * mean)).to(x.scalar_type());
}

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& input,
                            const at::Tensor& weight, double eps) {
    const at::Tensor x = input.contiguous();
    at::Tensor r, y;
    if (has_norm_kernel(x)) {
      y = fused_norm(x, weight.to(x.scalar_type()).contiguous(), eps, r, {});
      std::vector<int64_t> shape = x.sizes().vec();
      shape.back() = 1;
      r = r.view(shape);
    } else {
      const at::Tensor x32 = x.to(at::kFloat);
      r = at::rsqrt(x32.square().mean(-1, /*keepdim=*/true).add_(eps));
      y = (x32 * r).to(x.scalar_type()) * weight.to(x.scalar_type());
    }
    ctx->save_for_backward({x, weight, r});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &r = saved[2];
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      dx = has_norm_kernel(x) ? fused_norm_backward(x, weight.to(x.scalar_type()).contiguous(),
                                                    grads[0].to(x.scalar_type()).contiguous(), r)
                              : plain_norm_backward(x, weight, grads[0], r);
    }
    if (ctx->needs_input_grad(1)) {
      const at::Tensor n = x.to(at::kFloat) * r;
      dw = (grads[0].to(at::kFloat) * n).reshape({-1, x.size(-1)}).sum(0).to(weight.scalar_type());
    }
    return {dx, dw, at::Tensor()};
  }
};

}  // namespace

NormedInput rms_norm_input(const at::Tensor& x, const at::Tensor& weight, double eps,
                           const std::optional<InputFormat>& into) {
  if (at::GradMode::is_enabled() || !has_norm_kernel(x))
    return {RmsNormFunction::apply(x, weight, eps), {}};
  at::Tensor r;
  const QuantizedInput codes = room_for(x, into);
  return {fused_norm(x.contiguous(), weight.to(x.scalar_type()).contiguous(), eps, r, codes),
          codes};
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return rms_norm_input(x, weight, eps, {}).x;
}

NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& update, const at::Tensor& weight,
                       double eps, const std::optional<InputFormat>& into) {
  const bool own = !at::GradMode::is_enabled() && has_norm_kernel(x) &&
                   update.scalar_type() == x.scalar_type() && update.sizes() == x.sizes();
  if (!own) {
    const at::Tensor sum = x + update;
    return {sum, rms_norm_input(sum, weight, eps, into)};
  }
  const at::Tensor a = x.contiguous(), b = update.contiguous();
  const at::Tensor w = weight.to(x.scalar_type()).contiguous();
  NormedSum result{at::empty_like(a), {at::empty_like(a), room_for(x, into)}};
  const int64_t width = x.size(-1), rows = x.numel() / width;
  at::Tensor& normed = result.normed.x;
  const QuantizedInput& codes = result.normed.codes;
  if (x.scalar_type() == at::kFloat) {
    add_norm_rows(a.const_data_ptr<float>(), b.const_data_ptr<float>(), w.const_data_ptr<float>(),
                  result.sum.data_ptr<float>(), normed.data_ptr<float>(), rows, width, eps, codes);
  } else {
    add_norm_rows(a.const_data_ptr<c10::BFloat16>(), b.const_data_ptr<c10::BFloat16>(),
                  w.const_data_ptr<c10::BFloat16>(), result.sum.data_ptr<c10::BFloat16>(),
                  normed.data_ptr<c10::BFloat16>(), rows, width, eps, codes);
  }
  return result;
}

}  // namespace llama2zh
