// Rotary position embedding (Su et al. 2021), half-split form: with x = [a, b] halves of a head,
//   y = [a cos - b sin, b cos + a sin],
// computed in fp32 and rounded once. It is a rotation, so its gradient is the rotation by the
// negative angle and nothing of x has to be kept.
#include "llama2zh/kernels/rotary.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

constexpr int64_t kTokensAtOnce = 8;  // of a thread

// Rows of cos and sin, `step` apart: the first halves of what callers have.
struct Angles {
  const float *cos, *sin;
  int64_t step, half;
};

// The heads of one token. `sign` -1 turns back.
template <typename T>
void rotate_token(const T* x, T* y, const Angles& angles, int64_t token, int64_t heads,
                  float sign) {
  const int64_t half = angles.half;
  const float *c = angles.cos + token * angles.step, *s = angles.sin + token * angles.step;
  for (int64_t head = 0; head < heads; ++head) {
    const T* in = x + (token * heads + head) * 2 * half;
    T* out = y + (token * heads + head) * 2 * half;
    lanes::for_lanes(half, [&](int64_t i, int64_t count) {
      const lanes::Floats a = lanes::load_up_to(in + i, count);
      const lanes::Floats b = lanes::load_up_to(in + half + i, count);
      const lanes::Floats cosine = lanes::load_up_to(c + i, count);
      const lanes::Floats sine = lanes::load_up_to(s + i, count) * sign;
      lanes::store_up_to(out + i, a * cosine - b * sine, count);
      lanes::store_up_to(out + half + i, b * cosine + a * sine, count);
    });
  }
}

// x, y [T, heads, 2 half].
template <typename T>
void rotate_heads(const T* x, T* y, const Angles& angles, int64_t tokens, int64_t heads,
                  float sign) {
  at::parallel_for(0, tokens, kTokensAtOnce, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t t = begin; t < end; ++t) rotate_token(x, y, angles, t, heads, sign);
    });
  });
}

template <typename T>
void rotate_pair(const at::Tensor& q, const at::Tensor& k, const Angles& angles,
                 RotatedPair& rotated) {
  const T *queries = q.const_data_ptr<T>(), *keys = k.const_data_ptr<T>();
  T *new_queries = rotated.q.data_ptr<T>(), *new_keys = rotated.k.data_ptr<T>();
  at::parallel_for(0, q.size(0), kTokensAtOnce, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t t = begin; t < end; ++t) {
        rotate_token(queries, new_queries, angles, t, q.size(1), 1);
        rotate_token(keys, new_keys, angles, t, k.size(1), 1);
      }
    });
  });
}

at::Tensor rotate_on_cpu(const at::Tensor& input, const at::Tensor& cos, const at::Tensor& sin,
                         float sign) {
  const at::Tensor x = input.contiguous();
  at::Tensor y = at::empty_like(x);
  const int64_t tokens = x.size(0), heads = x.size(1), half = x.size(2) / 2;
  const Angles angles{cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), half, half};
  if (x.scalar_type() == at::kFloat) {
    rotate_heads(x.const_data_ptr<float>(), y.data_ptr<float>(), angles, tokens, heads, sign);
  } else {
    rotate_heads(x.const_data_ptr<c10::BFloat16>(), y.data_ptr<c10::BFloat16>(), angles, tokens,
                 heads, sign);
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

RotatedPair apply_rotary(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
                         const at::Tensor& sin) {
  const bool known = q.scalar_type() == at::kFloat || q.scalar_type() == at::kBFloat16;
  const bool own = !at::GradMode::is_enabled() && q.is_cpu() && known &&
                   k.scalar_type() == q.scalar_type() && cos.is_contiguous() && sin.is_contiguous();
  if (!own) return {apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)};
  const at::Tensor queries = q.contiguous(), keys = k.contiguous();
  RotatedPair pair{at::empty_like(queries), at::empty_like(keys)};
  const Angles angles{cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), cos.size(-1),
                      cos.size(-1) / 2};
  if (q.scalar_type() == at::kFloat)
    rotate_pair<float>(queries, keys, angles, pair);
  else
    rotate_pair<c10::BFloat16>(queries, keys, angles, pair);
  return pair;
}

}  // namespace llama2zh
