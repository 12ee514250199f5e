// y = silu(g) u with silu(g) = g s, s = 1 / (1 + e^-g). With t the gradient of y:
//   du = t silu(g),   dg = t u s (1 + g (1 - s)).
// One pass each way on a CPU; libtorch's operators elsewhere.
#include "llama2zh/kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

constexpr int64_t kElementsAtOnce = 16384;  // of a thread

inline lanes::Floats sigmoid(lanes::Floats x) { return 1.0f / (1.0f + lanes::exp(-x)); }

template <typename T>
void gated_silu(const T* gate, const T* up, T* y, int64_t n) {
  at::parallel_for(0, n, kElementsAtOnce, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      lanes::for_lanes(end - begin, [&](int64_t offset, int64_t count) {
        const int64_t i = begin + offset;
        const lanes::Floats g = lanes::load_up_to(gate + i, count);
        const lanes::Floats silu = lanes::rounded_to(gate, g * sigmoid(g));
        lanes::store_up_to(y + i, silu * lanes::load_up_to(up + i, count), count);
      });
    });
  });
}

template <typename T>
void gated_silu_backward(const T* gate, const T* up, const T* dy, T* dgate, T* dup, int64_t n) {
  at::parallel_for(0, n, kElementsAtOnce, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      lanes::for_lanes(end - begin, [&](int64_t offset, int64_t count) {
        const int64_t i = begin + offset;
        const lanes::Floats g = lanes::load_up_to(gate + i, count);
        const lanes::Floats t = lanes::load_up_to(dy + i, count);
        const lanes::Floats s = sigmoid(g);
        lanes::store_up_to(dup + i, t * lanes::rounded_to(gate, g * s), count);
        const lanes::Floats dsilu = lanes::rounded_to(gate, t * lanes::load_up_to(up + i, count));
        lanes::store_up_to(dgate + i, dsilu * s * (1.0f + g * (1.0f - s)), count);
      });
    });
  });
}

bool has_swiglu_kernel(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up) {
  if (!has_swiglu_kernel(gate)) return at::silu(gate) * up;
  at::Tensor y = at::empty_like(gate);
  if (gate.scalar_type() == at::kFloat) {
    gated_silu(gate.const_data_ptr<float>(), up.const_data_ptr<float>(), y.data_ptr<float>(),
               gate.numel());
  } else {
    gated_silu(gate.const_data_ptr<c10::BFloat16>(), up.const_data_ptr<c10::BFloat16>(),
               y.data_ptr<c10::BFloat16>(), gate.numel());
  }
  return y;
}

class SwigluFunction : public torch::autograd::Function<SwigluFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate_input,
                            const at::Tensor& up_input) {
    const at::Tensor gate = gate_input.contiguous(), up = up_input.contiguous();
    ctx->save_for_backward({gate, up});
    return gated(gate, up);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor dy = grads[0].contiguous();
    if (!has_swiglu_kernel(gate)) return {at::silu_backward(dy * up, gate), dy * at::silu(gate)};
    at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
    if (gate.scalar_type() == at::kFloat) {
      gated_silu_backward(gate.const_data_ptr<float>(), up.const_data_ptr<float>(),
                          dy.const_data_ptr<float>(), dgate.data_ptr<float>(),
                          dup.data_ptr<float>(), gate.numel());
    } else {
      gated_silu_backward(gate.const_data_ptr<c10::BFloat16>(), up.const_data_ptr<c10::BFloat16>(),
                          dy.const_data_ptr<c10::BFloat16>(), dgate.data_ptr<c10::BFloat16>(),
                          dup.data_ptr<c10::BFloat16>(), gate.numel());
    }
    return {dgate, dup};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  TORCH_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(),
              "swiglu: gate and up must be alike");
  if (!at::GradMode::is_enabled()) return gated(gate.contiguous(), up.contiguous());
  return SwigluFunction::apply(gate, up);
}

}  // namespace llama2zh
