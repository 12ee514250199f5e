#include "llama2zh/model/awq.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/kernels/quantized_matrix.h"
#include "model/model_test_util.h"
#include "model/scale_search.h"

namespace llama2zh {
namespace {

using testing::random;

// Inputs of which a few channels are much larger, as a model's are.
at::Tensor uneven_inputs(int64_t rows, int64_t in, uint64_t seed) {
  return random({rows, in}, seed) * (random({in}, seed + 1) * 1.5).exp();
}

struct ScaleShape {
  int bits;
  int64_t group_size, in;
};

class Awq : public ::testing::TestWithParam<ScaleShape> {};

// The definition over the rows themselves; awq_scales() has only their sums.
TEST_P(Awq, AlphaIsThatOfTheLeastOutputError) {
  const auto [bits, group_size, in] = GetParam();
  const at::Tensor x = uneven_inputs(300, in, 3);
  const std::vector<at::Tensor> weights = {random({24, in}, 1), random({17, in}, 2)};
  InputHessian input;
  input.add(x);
  const AwqScales found = awq_scales(weights, input, input.mean_magnitudes(), bits, group_size);
  const at::Tensor magnitudes = x.abs().mean(0);
  double least = INFINITY, alpha = -1, unscaled = 0;
  at::Tensor scales;
  for (int step = 0; step < 20; ++step) {
    at::Tensor s = magnitudes.clamp_min(1e-4).pow(step / 20.0);
    s = s / (s.max() * s.min()).sqrt();
    double error = 0;
    for (const at::Tensor& weight : weights) {
      const at::Tensor rounded = dequantize(quantize_rows(weight * s, bits, group_size)) / s;
      error += x.mm((rounded - weight).t()).square().mean().item<double>() *
               static_cast<double>(weight.size(0));
    }
    if (step == 0) unscaled = error;
    if (error < least) {
      least = error;
      alpha = step / 20.0;
      scales = s;
    }
  }
  EXPECT_EQ(found.alpha, alpha);
  EXPECT_TRUE(found.scales.allclose(scales, 1e-5, 1e-7));
  EXPECT_GT(found.alpha, 0);
  EXPECT_LT(least, 0.9 * unscaled);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Awq,
    ::testing::Values(ScaleShape{4, 32, 128}, ScaleShape{4, 64, 200}, ScaleShape{4, -1, 96},
                      ScaleShape{8, 32, 64}, ScaleShape{8, -1, 160}),
    [](const auto& kind) {
      return "int" + std::to_string(kind.param.bits) + "_" +
             (kind.param.group_size < 0 ? "row" : std::to_string(kind.param.group_size));
    });

at::Tensor logits_of(const Llama& model) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::arange(2, 42);
  PackedSequences context(ids.size(0), at::kCPU);
  return model.logits(model.forward(ids, context));
}

struct FoldCase {
  int64_t key_value_heads;
  at::ScalarType norms;
};

class AwqFold : public ::testing::TestWithParam<FoldCase> {};

// A layer with scales folded in is the same function, whatever type its norms are stored in.
TEST_P(AwqFold, LeavesLogitsAsTheyWere) {
  LlamaConfig config = testing::small_config();
  config.num_key_value_heads = GetParam().key_value_heads;
  const auto model = random_model(config, 5, at::kFloat, at::kCPU);
  for (DecoderLayer& layer : model->layers) {
    layer.input_layernorm = (random({32}, 6) + 3).to(GetParam().norms).to(at::kFloat);
    layer.post_attention_layernorm = (random({32}, 7) + 3).to(GetParam().norms).to(at::kFloat);
  }
  const at::Tensor before = logits_of(*model);
  std::map<std::string, double> alphas;
  for (DecoderLayer& layer : model->layers) {
    Attention& attention = layer.self_attn;
    const std::map<std::string, Linear*> linears = {
        {"self_attn.q_proj", &attention.q_proj}, {"self_attn.k_proj", &attention.k_proj},
        {"self_attn.v_proj", &attention.v_proj}, {"self_attn.o_proj", &attention.o_proj},
        {"mlp.gate_proj", &layer.mlp.gate_proj}, {"mlp.up_proj", &layer.mlp.up_proj},
        {"mlp.down_proj", &layer.mlp.down_proj}};
    LayerWeights weights = {
        {"input_layernorm", layer.input_layernorm.to(GetParam().norms)},
        {"post_attention_layernorm", layer.post_attention_layernorm.to(GetParam().norms)}};
    for (const auto& [name, linear] : linears) weights[name] = linear->weight;
    const LayerWeights old = weights;
    LayerInputs inputs;
    inputs.attention.add(uneven_inputs(200, 32, 8));
    inputs.attention_out.add(uneven_inputs(200, 32, 9));
    inputs.mlp.add(uneven_inputs(200, 32, 10));
    inputs.mlp_out.add(uneven_inputs(200, 48, 11));
    alphas = awq_fold(weights, inputs, config.layer_shape(), 4, 32);
    for (const auto& [name, linear] : linears) {
      EXPECT_FALSE(at::equal(weights.at(name), old.at(name))) << name;
      linear->weight = weights.at(name);
    }
    EXPECT_EQ(weights.at("input_layernorm").scalar_type(), GetParam().norms);
    layer.input_layernorm = weights.at("input_layernorm").to(at::kFloat);
    layer.post_attention_layernorm = weights.at("post_attention_layernorm").to(at::kFloat);
  }
  EXPECT_EQ(alphas.size(), 4u);
  for (const auto& [name, alpha] : alphas) EXPECT_GT(alpha, 0) << name;
  EXPECT_LT((logits_of(*model) - before).abs().max().item<double>(),
            1e-4 * before.abs().max().item<double>());
}

INSTANTIATE_TEST_SUITE_P(Heads, AwqFold,
                         ::testing::Values(FoldCase{4, at::kFloat}, FoldCase{2, at::kBFloat16},
                                           FoldCase{1, at::kHalf}),
                         [](const auto& kind) {
                           return "kv" + std::to_string(kind.param.key_value_heads);
                         });

TEST(AwqFold, WhatANormCannotHoldStays) {
  at::Tensor norm = random({4}, 1).to(at::kHalf);
  norm[0] = 0;
  norm[1] = 1e-7;
  norm[2] = 60000;
  const at::Tensor before = norm.clone();
  at::Tensor scales = random({4}, 2).abs() + 1;
  scales[1] = 1e4;   // underflows
  scales[2] = 1e-3;  // overflows
  const at::Tensor used = fold_into_norm(norm, scales);
  EXPECT_TRUE(at::equal(norm.narrow(0, 0, 3), before.narrow(0, 0, 3)));
  EXPECT_TRUE(at::equal(used.narrow(0, 0, 3), at::full({3}, 1.0f)));
  EXPECT_TRUE((norm.to(at::kFloat) * used).allclose(before.to(at::kFloat), 1e-6));
}

TEST(AwqInputs, DividingThemIsDividingTheirRows) {
  const at::Tensor x = random({50, 12}, 4), scales = random({12}, 5).abs() + 0.5;
  InputHessian all, divided;
  all.add(x.narrow(0, 0, 20));
  all.add(x.narrow(0, 20, 30));
  EXPECT_TRUE(all.mean_magnitudes().allclose(x.abs().mean(0), 1e-5));
  divided.add(x / scales);
  all.divide_inputs(scales);
  EXPECT_TRUE(all.sum().allclose(divided.sum(), 1e-4, 1e-4));
  EXPECT_TRUE(all.mean_magnitudes().allclose(divided.mean_magnitudes(), 1e-5));
}

TEST(Awq, WhatIsNotFiniteIsRefused) {
  at::Tensor x = random({50, 32}, 4);
  x[3][4] = std::nan("");
  InputHessian input;
  input.add(x);
  EXPECT_THROW(awq_scales({random({8, 32}, 1)}, input, input.mean_magnitudes(), 4, 32), Error);
  EXPECT_THROW(quantize_weighted(x, at::full({32}, 1.0f), 4, 32), Error);
}

TEST(QuantizeWeighted, LosesLessOfWhatCounts) {
  const at::Tensor weight = random({40, 128}, 6), importance = (random({128}, 7) * 2).exp();
  for (const int bits : {4, 8}) {
    for (const int64_t group : {32, -1}) {
      const auto loss = [&](const QuantizedMatrix& matrix) {
        return (dequantize(matrix) - weight).square().mul(importance).sum().item<double>();
      };
      EXPECT_LT(loss(quantize_weighted(weight, importance, bits, group)),
                (bits == 4 ? 0.9 : 1.0) * loss(quantize_rows(weight, bits, group)));
    }
  }
}

}  // namespace
}  // namespace llama2zh
