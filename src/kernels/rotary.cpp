// Rotary position embedding (Su et al. 2021), half-split form: with x = [a, b] halves of a head,
//   y = [a cos - b sin, b cos + a sin],
// computed in fp32 and rounded once. It is a rotation, so its gradient is the rotation by the
// negative angle and nothing of x has to be kept.
#include "llama2zh/kernels/rotary.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

// x, y [T, heads, 2 half]; cos, sin [T, half]; `sign` -1 turns back.
template <typename T>
void rotate_heads(const T* x, T* y, const float* cos, const float* sin, int64_t tokens,
                  int64_t heads, int64_t half, float sign) {
  at::parallel_for(0, tokens, 8, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t row = begin * heads; row < end * heads; ++row) {
        const float *c = cos + row / heads * half, *s = sin + row / heads * half;
        const T* in = x + row * 2 * half;
        T* out = y + row * 2 * half;
        lanes::for_lanes(half, [&](int64_t i, int64_t count) {
          const lanes::Floats a = lanes::load_up_to(in + i, count);
          const lanes::Floats b = lanes::load_up_to(in + half + i, count);
          const lanes::Floats cosine = lanes::load_up_to(c + i, count);
          const lanes::Floats sine = lanes::load_up_to(s + i, count) * sign;
          lanes::store_up_to(out + i, a * cosine - b * sine, count);
          lanes::store_up_to(out + half + i, b * cosine + a * sine, count);
        });
      }
    });
  });
}

at::Tensor rotate_on_cpu(const at::Tensor& input, const at::Tensor& cos, const at::Tensor& sin,
                         float sign) {
  const at::Tensor x = input.contiguous();
  at::Tensor y = at::empty_like(x);
  const int64_t tokens = x.size(0), heads = x.size(1), half = x.size(2) / 2;
  const float *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  if (x.scalar_type() == at::kFloat) {
    rotate_heads(x.const_data_ptr<float>(), y.data_ptr<float>(), c, s, tokens, heads, half, sign);
  } else {
    rotate_heads(x.const_data_ptr<c10::BFloat16>(), y.data_ptr<c10::BFloat16>(), c, s, tokens,
                 heads, half, sign);
  }
  return y;
}

// half_cos, half_sin: [T, half]
at::Tensor rotate(const at::Tensor& x, const at::Tensor& half_cos, const at::Tensor& half_sin,
                  float sign) {
  const bool known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  if (x.is_cpu() && known) return rotate_on_cpu(x, half_cos, half_sin, sign);
  const int64_t half = x.size(-1) / 2;
  const at::Tensor x32 = x.to(at::kFloat);
  const at::Tensor a = x32.narrow(-1, 0, half), b = x32.narrow(-1, half, half);
  const at::Tensor c = half_cos.unsqueeze(1), s = half_sin.unsqueeze(1) * sign;
  return at::cat({(a * c).sub_(b * s), (b * c).add_(a * s)}, -1).to(x.scalar_type());
}

class RotaryFunction : public torch::autograd::Function<RotaryFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& half_cos, const at::Tensor& half_sin) {
    ctx->save_for_backward({half_cos, half_sin});
    return rotate(x, half_cos, half_sin, 1);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {rotate(grads[0], saved[0], saved[1], -1), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor apply_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  return RotaryFunction::apply(x, cos.narrow(-1, 0, half).contiguous(),
                               sin.narrow(-1, 0, half).contiguous());
}

}  // namespace llama2zh
