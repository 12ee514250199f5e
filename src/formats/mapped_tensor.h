#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "llama2zh/base/file.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// The tensor whose elements lie at `offset` of a mapped file; it keeps the mapping alive. The range
// must have been checked. Bytes that are not aligned for their type, and tensors whose `strides`
// are not those of a dense tensor, are copied. Empty `strides` mean dense.
at::Tensor map_tensor(const std::shared_ptr<const MappedFile>& file, uint64_t offset,
                      const TensorInfo& info, std::span<const int64_t> strides = {});

}  // namespace llama2zh
