#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// kData unless the tensor is defined, dense in memory terms (not sparse, not quantized) and of a
// type that files know.
void check_storable(std::string_view where, std::string_view name, const at::Tensor& tensor);
// The tensor's elements in row-major order in main memory: itself where that is so already.
at::Tensor dense_on_cpu(const at::Tensor& tensor);
TensorInfo info_of(std::string_view name, const at::Tensor& tensor);

}  // namespace llama2zh
