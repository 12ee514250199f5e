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

struct RowsOut {
  int8_t* codes;
  float* scales;
  int32_t* offsets;
};

template <typename T>
void quantize_rows_of(const T* x, int64_t rows, int64_t in, const PackedWeight& weight,
                      const RowsOut& out) {
  const int64_t width = weight.padded_in(), group = weight.group, groups = weight.groups;
  const int32_t factor = weight.zeros ? -1 : -weight.middle();
  at::parallel_for(
      0, rows, std::max<int64_t>(1, kQuantizedAtOnce / width), [&](int64_t begin, int64_t end) {
        run_with_isa([&] {
          for (int64_t row = begin; row < end; ++row) {
            for (int64_t g = 0; g < groups; ++g) {
              int32_t sum;
              out.scales[row * groups + g] =
                  quantize_group(x + row * in + g * group, std::min(group, in - g * group), group,
                                 out.codes + row * width + g * group, sum);
              out.offsets[row * groups + g] = factor * sum;
            }
          }
        });
      });
}

}  // namespace

at::Tensor quantize_activations(const at::Tensor& x, const PackedWeight& weight,
                                Int8Activations& result) {
  const int64_t rows = x.size(0), codes = rows * weight.padded_in(), groups = rows * weight.groups;
  at::Tensor buffer = at::empty({codes + 8 * groups}, at::kByte);
  auto* bytes = buffer.data_ptr<uint8_t>();
  const RowsOut out{reinterpret_cast<int8_t*>(bytes), reinterpret_cast<float*>(bytes + codes),
                    reinterpret_cast<int32_t*>(bytes + codes + 4 * groups)};
  if (x.scalar_type() == at::kFloat) {
    quantize_rows_of(x.const_data_ptr<float>(), rows, x.size(1), weight, out);
  } else {
    quantize_rows_of(x.const_data_ptr<c10::BFloat16>(), rows, x.size(1), weight, out);
  }
  result = {out.codes, out.scales, out.offsets, rows};
  return buffer;
}

}  // namespace llama2zh
