// Rows of activations in 8 bits, symmetric by groups. Compiled without contracted multiply-adds, so
// that a code is the same on every instruction set.
#include "kernels/quantized_activations.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

constexpr int64_t kQuantizedAtOnce = 16 * 1024;  // elements of a thread
constexpr float kSmallest = 1e-30f;              // below it a group is zero

using Codes = uint8_t __attribute__((vector_size(16)));
using Integers = int32_t __attribute__((vector_size(64)));

// `count` numbers (of `group`; the rest is zero) -> codes, their sum; returns the scale. A number
// that is not finite makes the scale, and with it the row's results, NaN.
template <typename T>
float quantize_group(const T* x, int64_t count, int64_t group, int8_t* codes, int32_t& sum) {
  lanes::Floats top{}, poison{};
  lanes::for_lanes(count, [&](int64_t i, int64_t n) {
    const lanes::Floats v = lanes::load_up_to(x + i, n);
    top = lanes::larger(top, v < 0 ? -v : v);
    poison += v * 0.0f;
  });
  const float largest = lanes::largest(top), inverse = largest > kSmallest ? 127 / largest : 0;
  Integers sums{};
  const lanes::Floats shift = lanes::spread(12582912.0f);  // 1.5 * 2^23: rounds to a whole number
  const Integers shift_bits = Integers{} + 0x4B400000;
  for (int64_t i = 0; i < group; i += lanes::kLanes) {
    const int64_t n = std::min(lanes::kLanes, count - i);
    const lanes::Floats v = n > 0 ? lanes::load_up_to(x + i, n) : lanes::Floats{};
    const lanes::Floats shifted = v * inverse + shift;
    Integers bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits -= shift_bits;
    sums += bits;
    const Codes bytes = __builtin_convertvector(bits, Codes);
    std::memcpy(codes + i, &bytes, sizeof bytes);
  }
  sum = 0;
  for (int64_t i = 0; i < lanes::kLanes; ++i) sum += sums[i];
  return (inverse > 0 ? largest / 127 : 0) + lanes::sum(poison);
}

// Where the parts of an input's memory lie.
struct InputParts {
  int8_t* codes;
  float* scales;
  int32_t* offsets;
};
InputParts parts_of(const QuantizedInput& input) {
  const int64_t codes = input.rows * input.format.stride();
  const int64_t groups = input.rows * input.format.groups;
  auto* bytes = static_cast<uint8_t*>(input.memory.mutable_data_ptr());
  return {reinterpret_cast<int8_t*>(bytes), reinterpret_cast<float*>(bytes + codes),
          reinterpret_cast<int32_t*>(bytes + codes + 4 * groups)};
}

template <typename T>
void quantize_typed_rows(const T* x, int64_t begin, int64_t end, const QuantizedInput& input) {
  const InputFormat& format = input.format;
  const int64_t in = format.in, stride = format.stride(), group = format.group;
  const InputParts to = parts_of(input);
  run_with_isa([&] {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t g = 0; g < format.groups; ++g) {
        int32_t sum;
        to.scales[row * format.groups + g] =
            quantize_group(x + row * in + g * group, std::min(group, in - g * group), group,
                           to.codes + row * stride + g * group, sum);
        to.offsets[row * format.groups + g] = -format.factor * sum;
      }
    }
  });
}

}  // namespace

InputFormat InputFormat::of(const QuantizedMatrix& matrix) {
  const int64_t group = matrix.per_row() ? kRowGroup : matrix.group_size;
  return {matrix.in, group, matrix.padded_in() / group,
          matrix.zeros.defined() ? 1 : 1 << (matrix.bits - 1)};
}

QuantizedInput empty_input(int64_t rows, const InputFormat& format) {
  return {format, rows, at::empty({rows * (format.stride() + 8 * format.groups)}, at::kByte)};
}

Int8Activations activations_of(const QuantizedInput& input) {
  const InputParts parts = parts_of(input);
  return {parts.codes, parts.scales, parts.offsets, input.rows, input.format.stride()};
}

void quantize_rows_into(const float* x, int64_t begin, int64_t end, const QuantizedInput& input) {
  quantize_typed_rows(x, begin, end, input);
}
void quantize_rows_into(const c10::BFloat16* x, int64_t begin, int64_t end,
                        const QuantizedInput& input) {
  quantize_typed_rows(x, begin, end, input);
}

QuantizedInput quantize_input(const at::Tensor& x, const InputFormat& format) {
  QuantizedInput result = empty_input(x.size(0), format);
  const int64_t at_once = std::max<int64_t>(1, kQuantizedAtOnce / format.padded_in());
  at::parallel_for(0, x.size(0), at_once, [&](int64_t begin, int64_t end) {
    if (x.scalar_type() == at::kFloat)
      quantize_rows_into(x.const_data_ptr<float>(), begin, end, result);
    else
      quantize_rows_into(x.const_data_ptr<c10::BFloat16>(), begin, end, result);
  });
  return result;
}

}  // namespace llama2zh
