// The search needs no rows of inputs: with d = round(W s) / s - W and H = sum of x^T x the error is
// the sum of (d H) * d over all elements.
#include "llama2zh/model/awq.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>

#include <limits>

#include "llama2zh/base/error.h"
#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {
namespace {

constexpr int kSteps = 20;  // of alpha in [0, 1)
constexpr double kLeastMagnitude = 1e-4;

at::Tensor scales_of(const at::Tensor& magnitudes, double alpha) {
  const at::Tensor scales = magnitudes.clamp_min(kLeastMagnitude).pow(alpha);
  return scales / (scales.max() * scales.min()).sqrt();
}

double output_error(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& hessian,
                    int bits, int64_t group_size) {
  at::Tensor change = dequantize(quantize_rows(weight * scales, bits, group_size));
  change.div_(scales).sub_(weight);
  return at::mm(change, hessian).mul_(change).sum(at::kDouble).item<double>();
}

// Of the inputs of o, [q heads * d]: one for all heads that share a key-value head.
at::Tensor shared_by_groups(const at::Tensor& magnitudes, const LayerShape& shape) {
  const int64_t shared = shape.num_attention_heads / shape.num_key_value_heads;
  const at::Tensor heads = magnitudes.view({shape.num_key_value_heads, shared, shape.head_dim});
  return heads.mean(1, /*keepdim=*/true).expand_as(heads).reshape(-1);
}

// [q heads * d] -> [key-value heads * d]
at::Tensor of_value_heads(const at::Tensor& scales, const LayerShape& shape) {
  const int64_t shared = shape.num_attention_heads / shape.num_key_value_heads;
  return scales.view({shape.num_key_value_heads, shared, shape.head_dim}).select(1, 0).reshape(-1);
}

class Fold {
 public:
  Fold(LayerWeights& layer, int bits, int64_t group_size)
      : layer_(&layer), bits_(bits), group_size_(group_size) {}

  // Scales of these projections that go into what make_way() changes; it gives them as they came out.
  template <typename MakeWay>
  double into(const std::vector<std::string>& names, InputHessian& input,
              const at::Tensor& magnitudes, const MakeWay& make_way) {
    std::vector<at::Tensor> weights;
    weights.reserve(names.size());
    for (const std::string& name : names) weights.push_back(layer_->at(name));
    AwqScales found = awq_scales(weights, input, magnitudes, bits_, group_size_);
    if (found.alpha == 0) return 0;
    const at::Tensor scales = make_way(found.scales);
    for (const std::string& name : names) layer_->at(name) = layer_->at(name) * scales;
    input.divide_inputs(scales);
    return found.alpha;
  }

 private:
  LayerWeights* layer_;
  int bits_;
  int64_t group_size_;
};

}  // namespace

AwqScales awq_scales(const std::vector<at::Tensor>& weights, const InputHessian& input,
                     const at::Tensor& magnitudes, int bits, int64_t group_size) {
  if (!magnitudes.isfinite().all().item<bool>()) {
    fail_data("awq", "the calibration inputs are not finite numbers");
  }
  AwqScales best;
  double least = std::numeric_limits<double>::infinity();
  for (int step = 0; step < kSteps; ++step) {
    const double alpha = static_cast<double>(step) / kSteps;
    const at::Tensor scales = scales_of(magnitudes, alpha);
    double error = 0;
    for (const at::Tensor& weight : weights)
      error += output_error(weight, scales, input.sum(), bits, group_size);
    if (error < least) {
      least = error;
      best = {alpha, scales};
    }
  }
  if (!best.scales.defined()) fail_data("awq", "the calibration inputs are not finite numbers");
  return best;
}

at::Tensor fold_into_norm(at::Tensor& norm, const at::Tensor& scales) {
  const at::Tensor before = norm.to(at::kFloat);
  const at::Tensor folded = (before / scales).to(norm.scalar_type()).to(at::kFloat);
  const at::Tensor holds = folded.isfinite().logical_and(folded.ne(0));
  const at::Tensor after = at::where(holds, folded, before);
  norm = after.to(norm.scalar_type());
  return at::where(holds, before / after, after.new_ones({}));
}

std::map<std::string, double> awq_fold(LayerWeights& layer, LayerInputs& inputs,
                                       const LayerShape& shape, int bits, int64_t group_size) {
  for (auto& [name, weight] : layer)
    if (weight.dim() == 2) weight = weight.to(at::kFloat);
  Fold fold(layer, bits, group_size);
  const auto into_norm = [&](const char* name) {
    return
        [&layer, name](const at::Tensor& scales) { return fold_into_norm(layer.at(name), scales); };
  };
  const auto into_rows = [&](const char* name, const auto& rows_of) {
    return [&layer, name, rows_of](const at::Tensor& scales) {
      layer.at(name) = layer.at(name) / rows_of(scales).unsqueeze(1);
      return scales;
    };
  };
  std::map<std::string, double> alphas;
  alphas["self_attn.q_proj"] =
      fold.into({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, inputs.attention,
                inputs.attention.mean_magnitudes(), into_norm("input_layernorm"));
  alphas["self_attn.o_proj"] =
      fold.into({"self_attn.o_proj"}, inputs.attention_out,
                shared_by_groups(inputs.attention_out.mean_magnitudes(), shape),
                into_rows("self_attn.v_proj",
                          [&](const at::Tensor& scales) { return of_value_heads(scales, shape); }));
  alphas["mlp.gate_proj"] =
      fold.into({"mlp.gate_proj", "mlp.up_proj"}, inputs.mlp, inputs.mlp.mean_magnitudes(),
                into_norm("post_attention_layernorm"));
  alphas["mlp.down_proj"] =
      fold.into({"mlp.down_proj"}, inputs.mlp_out, inputs.mlp_out.mean_magnitudes(),
                into_rows("mlp.up_proj", [](const at::Tensor& scales) { return scales; }));
  return alphas;
}

}  // namespace llama2zh
