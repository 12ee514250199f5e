#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "llama2zh/model/input_hessian.h"
#include "llama2zh/nn/decoder_layer.h"

namespace llama2zh {

// AWQ (Lin et al. 2023): input channels that carry much are multiplied by scales before rounding, so
// that they lose less; what makes that input is divided by the same, so that nothing else changes.
struct AwqScales {
  double alpha = 0;
  at::Tensor scales;  // [in] fp32
};

// Of linears with a common input: s = m^alpha with m the inputs' mean magnitudes (not below 1e-4),
// divided by sqrt(max s * min s); alpha is that of 0, 0.05, ..., 0.95 with which
// |x round(W s) / s - x W|^2 over the calibration rows and all of these outputs is least, round() being
// quantize_rows(). weights [out, in] fp32; magnitudes [in] fp32. kData where they are not finite.
AwqScales awq_scales(const std::vector<at::Tensor>& weights, const InputHessian& input,
                     const at::Tensor& magnitudes, int bits, int64_t group_size);

// Divides a norm's weight by scales as far as its type can hold that; gives the scales that it comes
// to, by which what reads the norm is multiplied.
at::Tensor fold_into_norm(at::Tensor& norm, const at::Tensor& scales);

// Weights of a layer by their names there without ".weight": "mlp.up_proj", "input_layernorm".
using LayerWeights = std::map<std::string, at::Tensor>;

// Inputs of a layer's projections: of q, k, v; o; gate, up; down.
struct LayerInputs {
  InputHessian attention, attention_out, mlp, mlp_out;
};

// Folds AWQ's scales into a layer, whose function stays what it was: those of q, k, v and gate, up
// into the norms before them, o's into v's rows (with grouped queries, scales of heads that share v
// are one: their mean magnitude's), down's into up's rows. Projections become fp32, norms keep their
// type; `inputs` become those of the folded layer. Gives each alpha by the first projection's name.
std::map<std::string, double> awq_fold(LayerWeights& layer, LayerInputs& inputs,
                                       const LayerShape& shape, int bits, int64_t group_size);

}  // namespace llama2zh
