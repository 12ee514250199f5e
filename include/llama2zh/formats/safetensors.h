#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// Writes one safetensors file atomically (format: https://github.com/huggingface/safetensors,
// metadata always {"format":"pt"} plus `metadata`). Tensors may be on any device and
// non-contiguous; they are moved and written one after the other. Reads the header back before the
// rename.
void write_safetensors(const std::filesystem::path& file,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// Writes model.safetensors, or model-0000i-of-0000n.safetensors with model.safetensors.index.json,
// with one tensor in memory at a time: all infos are declared first, then each tensor is added
// once, in any order within the declared order of shards.
class ShardedWriter {
 public:
  // `infos` in the order in which they will be added; `max_shard_bytes` decimal (5 GB = 5e9).
  ShardedWriter(std::filesystem::path folder, std::vector<TensorInfo> infos,
                uint64_t max_shard_bytes = 5'000'000'000);
  ~ShardedWriter();
  void add(std::string_view name,
           const at::Tensor& tensor);  // must be the next declared one; shape and dtype are checked
  void finish();                       // all must have been added; writes the index
  const std::vector<std::string>& files() const;  // names in the folder, after finish()

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llama2zh
