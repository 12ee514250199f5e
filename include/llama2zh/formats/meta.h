#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// Foreign layouts shown as a Hugging Face checkpoint: tensors() has HF names and shapes, config()
// is a config.json, and load() converts one tensor at a time.
class ForeignCheckpoint : public TensorSource {
 public:
  virtual const ordered_json& config() const = 0;
};

// Meta's folder: params.json and consolidated.NN.pth (1, 2, 4 or 8 parts, joined per tensor; Q and
// K rows un-permuted). `vocab_size` -1 in params.json is taken from the embedding.
std::unique_ptr<ForeignCheckpoint> open_meta_checkpoint(const std::filesystem::path& folder);
bool is_meta_folder(const std::filesystem::path& path);

// llama2.c's .bin, version 0 (no magic; 7 int32; fp32; shared head when vocab_size > 0) and version
// 1 ("ak42" header, 256 bytes).
std::unique_ptr<ForeignCheckpoint> open_llama2c_checkpoint(const std::filesystem::path& file);

// kUsage unless a model of this config.json can be divided into `parts` files: found before the work.
void check_meta_parts(const ordered_json& hf_config, int parts);

// Writes params.json and consolidated.00.pth (.. `parts`) from a Hugging Face checkpoint into an
// existing folder, one tensor in memory at a time.
void write_meta_checkpoint(const std::filesystem::path& folder, const TensorSource& source,
                           const ordered_json& hf_config, int parts);

// HF half-split row order <-> Meta's interleaved one, for a [heads * head_dim, in] matrix.
at::Tensor permute_hf_to_meta(const at::Tensor& weight, int64_t heads);
at::Tensor permute_meta_to_hf(const at::Tensor& weight, int64_t heads);

}  // namespace llama2zh
