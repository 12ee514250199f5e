#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace llama2zh {

// Writes a file that torch.load reads with weights_only=True: an ordered dict of tensors in the zip
// layout of formats torch >= 1.6 (stored entries, payloads aligned to 64 bytes). Atomic; one tensor
// in memory at a time.
void write_torch_zip(const std::filesystem::path& file,
                     const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace llama2zh
