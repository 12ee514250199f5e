// The bytes of a little-endian int32 are its integers in order, in pairs with 4 bits.
#include "llama2zh/formats/packed_integers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <bit>
#include <vector>

namespace llama2zh {
namespace {

static_assert(std::endian::native == std::endian::little);

// [..., words] int32 -> [..., words, 32 / bits]
at::Tensor integers_of(const at::Tensor& words, int bits) {
  std::vector<int64_t> shape = words.sizes().vec();
  shape.push_back(4);
  at::Tensor bytes = words.contiguous().view(at::kByte).view(shape);
  if (bits == 8) return bytes;
  shape.back() = 8;
  return at::stack({bytes.bitwise_and(15), bytes.bitwise_right_shift(4)}, -1).view(shape);
}

// [..., words, 32 / bits] -> [..., words]
at::Tensor words_of(const at::Tensor& integers, int bits) {
  at::Tensor bytes = integers.contiguous();
  if (bits == 4) {
    std::vector<int64_t> pairs = bytes.sizes().vec();
    pairs.back() = 4;
    pairs.push_back(2);
    const at::Tensor both = bytes.view(pairs);
    bytes = both.select(-1, 0).bitwise_or(both.select(-1, 1).bitwise_left_shift(4)).contiguous();
  }
  return bytes.view(at::kInt).squeeze(-1);
}

}  // namespace

at::Tensor unpack_integers(const at::Tensor& words, int bits) {
  return integers_of(words, bits).view({words.size(0), -1});
}

at::Tensor pack_integers(const at::Tensor& values, int bits) {
  return words_of(values.contiguous().view({values.size(0), -1, 32 / bits}), bits);
}

at::Tensor unpack_integers_transposed(const at::Tensor& words, int bits) {
  return integers_of(words, bits).transpose(0, 1).reshape({words.size(1), -1});
}

at::Tensor pack_integers_transposed(const at::Tensor& values, int bits) {
  return pack_integers(values, bits).t().contiguous();
}

at::Tensor in_order_of_awq(const at::Tensor& values) {
  const at::Tensor places = at::tensor(std::vector<int64_t>{0, 4, 1, 5, 2, 6, 3, 7});
  return values.contiguous().view({values.size(0), -1, 8}).index_select(2, places).view_as(values);
}

}  // namespace llama2zh
