#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "llama2zh/model/load.h"

namespace llama2zh {

struct QuantizeOptions {
  QuantizationConfig quantization;
  double damping = 0.01;  // gptq; awq's importance of inputs: share of the mean that is added
  // gptq, awq: token ids of each calibration sequence, which go through the model layer by layer, the
  // layers before quantized already.
  std::vector<std::vector<int64_t>> calibration;
  at::ScalarType compute_dtype = at::kBFloat16;  // of the calibration
  uint64_t max_shard_bytes = 5'000'000'000;
};

struct QuantizeReport {
  // awq: alpha of what shares an input, by the first projection: "model.layers.0.mlp.gate_proj".
  std::map<std::string, double> awq_alphas;
};

// Writes the model with quantized matrices into an existing (staged) folder: weights, config.json,
// generation_config.json. One layer's matrices and their hessians are in memory at a time, beside the
// calibration sequences' hidden states. `on_matrix` is told after each matrix; a stop that was asked
// for throws between two. kUsage if the model is quantized already.
QuantizeReport quantize_model(const OpenModel& source, const std::filesystem::path& folder,
                              const QuantizeOptions& options,
                              const std::function<void(const std::string& name)>& on_matrix = {});

}  // namespace llama2zh
