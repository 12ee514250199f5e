#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

// Unsigned integers of 4 or 8 bits, several in each int32, as GPTQ and AWQ checkpoints store them; the
// first is in the lowest bits. All tensors are contiguous and in host memory.

// [rows, words] int32 -> [rows, words * 32 / bits] uint8 and back.
at::Tensor unpack_integers(const at::Tensor& words, int bits);
at::Tensor pack_integers(const at::Tensor& values, int bits);

// Packed along the first dimension: [words, columns] int32 -> [columns, words * 32 / bits] uint8, that
// is transposed, and back.
at::Tensor unpack_integers_transposed(const at::Tensor& words, int bits);
at::Tensor pack_integers_transposed(const at::Tensor& values, int bits);

// A word that is 1 in each of its integers.
constexpr int32_t one_in_each(int bits) { return bits == 4 ? 0x11111111 : 0x01010101; }

// Columns in the order in which AWQ's GEMM layout packs each eight of them: 0, 2, 4, 6, 1, 3, 5, 7.
// [rows, columns] of any type, as unpacked from it -> in order.
at::Tensor in_order_of_awq(const at::Tensor& values);

}  // namespace llama2zh
