#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "llama2zh/model/load.h"

namespace llama2zh {

// Whether write_gptq_model() can write this model: kUsage if its weights are not quantized, or if a
// matrix's sizes or scales can't be stored in that layout exactly.
void check_gptq_output(const OpenModel& open);

// A quantized model in GPTQ's Hugging Face layout (checkpoint_format gptq), which transformers and vLLM
// read, into an existing (staged) folder: weights, config.json, generation_config.json. Codes, scales
// and zeros are what they were; quantized embeddings, which the layout lacks, become numbers in the
// type of the norms. `before_tensor` is called before each.
void write_gptq_model(const std::filesystem::path& folder, const OpenModel& open,
                      uint64_t max_shard_bytes, const std::function<void()>& before_tensor = {});

}  // namespace llama2zh
