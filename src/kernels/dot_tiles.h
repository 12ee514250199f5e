#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>

#include <cstdint>

namespace llama2zh {

// Rows of x in bfloat16 as the tiles read them. Passes over the weight take up to four rows each,
// as evenly as they go; a pass's rows are laid out [in/32][rows of the pass][32], zeros at the end.
constexpr int64_t kDotRows = 4;
constexpr int64_t kDotWidth = 32;
at::Tensor pack_dot_rows(const at::Tensor& x);

// Of x [rows, in], packed, and columns [begin, end) of y [rows, out], with AVX-512 BF16.
void dot_product_avx512(const c10::BFloat16* x, int64_t rows, int64_t in, int64_t out,
                        const c10::BFloat16* weight, int64_t begin, int64_t end, c10::BFloat16* y);

// The same with AMX, where it is there and `in` is a multiple of 32. Its sums have other bits.
bool has_amx_dots(int64_t in);
// Tiles of sixteen rows (the last of as many as are left), each [in/2][rows][2].
at::Tensor pack_amx_rows(const at::Tensor& x);
void dot_product_amx(const c10::BFloat16* x, int64_t rows, int64_t in, int64_t out,
                     const c10::BFloat16* weight, int64_t begin, int64_t end, c10::BFloat16* y);

}  // namespace llama2zh
