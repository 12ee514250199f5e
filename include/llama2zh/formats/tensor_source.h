#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  int64_t numel() const;
  uint64_t bytes() const;
};

// Named tensors on disk, read one by one. Everything a header claims is checked against the file's
// size before anything is allocated; errors are kFormat and name file and tensor. Const methods are
// thread-safe.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::vector<TensorInfo>& tensors() const = 0;  // sorted by name
  // A CPU tensor. Memory-mapped (shared, read-only: writing to it is an error of the caller) where
  // the format allows, else a copy.
  virtual at::Tensor load(std::string_view name) const = 0;
  virtual std::string describe() const = 0;  // "model.safetensors", "3 shards in DIR": for messages

  const TensorInfo* find(std::string_view name) const;     // null if there is none
  const TensorInfo& require(std::string_view name) const;  // kFormat with the nearest name
};

// The weights of a model or adapter folder, or of a single file: model.safetensors, sharded
// safetensors with index, pytorch_model.bin (whole or sharded), adapter_model.safetensors/.bin;
// safetensors is preferred. Every shard the index names is opened and checked at once: missing or
// truncated shards, names that leave the folder, tensors in no shard are errors here.
std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& folder_or_file);

std::unique_ptr<TensorSource> open_safetensors(const std::filesystem::path& file);
// A torch.save zip (.bin, .pth): a dict of tensors, read by an unpickler that knows a handful of
// opcodes and executes nothing.
std::unique_ptr<TensorSource> open_torch_zip(const std::filesystem::path& file);

}  // namespace llama2zh
