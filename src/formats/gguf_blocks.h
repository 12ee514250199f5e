#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama2zh/formats/gguf.h"

namespace llama2zh {

// `blocks` stored blocks of a quantized type -> floats, as the Python package gguf computes them,
// bit for bit.
void dequantize_ggml(GgmlType type, const std::byte* stored, int64_t blocks, float* out);
// The same of a whole tensor, on all threads.
at::Tensor dequantize_ggml(GgmlType type, const std::byte* stored, at::IntArrayRef shape);

// A dense float tensor on the CPU whose rows are a multiple of the block -> its blocks, as
// llama.cpp's reference functions (quantize_row_*_ref) make them, bit for bit. kData naming `where`
// for values that are not finite; ggml_can_quantize(type) must hold.
std::vector<std::byte> quantize_ggml(GgmlType type, const at::Tensor& values,
                                     const std::string& where);

}  // namespace llama2zh
