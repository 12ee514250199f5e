#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// Writes a file that torch.load reads with weights_only=True: an ordered dict of tensors in the zip
// layout of formats torch >= 1.6 (stored entries, payloads aligned to 64 bytes). Atomic. `tensor(i)`
// returns the tensor that infos[i] announces when it is its turn: only one is in memory at a time.
// kData if it has another type or shape, or a name is not UTF-8 or given twice.
void write_torch_zip(const std::filesystem::path& file, const std::vector<TensorInfo>& infos,
                     const std::function<at::Tensor(size_t i)>& tensor);
void write_torch_zip(const std::filesystem::path& file,
                     const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace llama2zh
