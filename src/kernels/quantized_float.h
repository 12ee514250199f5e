#pragma once

#include <cstdint>

#include "kernels/quantized_tiles.h"

namespace llama2zh {

// Columns of blocks [first, last) for `rows` rows of x [rows, padded_in] in fp32.
void float_product(const PackedWeight& weight, const float* x, int64_t rows, int64_t first_block,
                   int64_t last_block, const ProductOutput& y);

}  // namespace llama2zh
