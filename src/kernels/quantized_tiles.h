#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

#include "kernels/isa.h"

// The inner loops of products with a QuantizedMatrix, one for each instruction set, over plain
// pointers. What they share about the layout is in quantized_matrix.h.
namespace llama2zh {

constexpr int64_t kBlockColumns = 16;
constexpr int64_t kRowGroup = 128;  // of activations, where a row of the weight has one scale

// A QuantizedMatrix as the inner loops see it.
struct PackedWeight {
  const uint8_t* codes;
  const c10::Half* group_scales;  // null: one scale a row
  const float* row_scales;        // null: group_scales
  const uint8_t* zeros;           // null: symmetric
  int64_t out, group, groups;     // groups of codes, also where a row has one scale
  int64_t block_bytes;
  int bits;

  int middle() const { return 1 << (bits - 1); }
  int64_t padded_in() const { return group * groups; }
};

// Rows of activations in 8 bits: x = scale * code.
struct Int8Activations {
  const int8_t* codes;     // [rows, padded_in], rows `stride` apart
  const float* scales;     // [rows, groups]
  const int32_t* offsets;  // [rows, groups]: -sum of a group's codes, times middle() if symmetric
  int64_t rows, stride;
};

// [rows, out] in fp32 or bfloat16.
struct ProductOutput {
  void* y;
  bool bfloat16;
  int64_t out;
};

// Columns of blocks [first, last) for all rows.
using Int8Product = void (*)(const PackedWeight& weight, const Int8Activations& x,
                             int64_t first_block, int64_t last_block, const ProductOutput& y);

void int8_product_portable(const PackedWeight& weight, const Int8Activations& x,
                           int64_t first_block, int64_t last_block, const ProductOutput& y);
void int8_product_avx2(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                       int64_t last_block, const ProductOutput& y);
void int8_product_avx512(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                         int64_t last_block, const ProductOutput& y);

// As the last, but for full tiles of sixteen rows by AMX. To be called only with has_int8_tiles().
void int8_product_amx(const PackedWeight& weight, const Int8Activations& x, int64_t first_block,
                      int64_t last_block, const ProductOutput& y);
// Whether this processor has AMX's int8 tiles and the system lets this process use them.
bool has_int8_tiles();

// The one for this instruction set: AMX where AVX-512 is wanted and it is there; for AVX-512 without VNNI that of AVX2.
Int8Product int8_product_for(Isa isa);

// Sixteen results of one row and block; those past `out` are dropped.
void store_block(const float* sums, int64_t row, int64_t block, const ProductOutput& y);

}  // namespace llama2zh
