// The dynamic map of Dettmers 2015 and Dettmers et al. 2022, section 1.3: a leading run of zero bits is
// a decimal exponent, the rest a linear fraction of it. Relative error is small over seven decades,
// where a linear code would lose every small value beside a large one in its block.
#include "llama2zh/train/quantized_moment.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace llama2zh {
namespace {

constexpr int kExponents = 7;

int64_t blocks_of(int64_t elements) {
  return (elements + QuantizedMoment::kBlock - 1) / QuantizedMoment::kBlock;
}

// [count] -> [blocks, kBlock], padded with zeros.
at::Tensor in_blocks(const at::Tensor& values) {
  const int64_t count = values.size(0), padded = blocks_of(count) * QuantizedMoment::kBlock;
  const at::Tensor whole =
      padded == count ? values : at::constant_pad_nd(values, {0, padded - count});
  return whole.view({-1, QuantizedMoment::kBlock});
}

// What bucketize gives, without its branches, which a processor guesses wrong half the time: it was a
// third of a whole training step.
at::Tensor nearest_codes(const at::Tensor& values, const at::Tensor& middles) {
  if (!values.is_cpu()) return at::bucketize(values, middles, /*out_int32=*/true);
  at::Tensor codes = at::empty(values.sizes(), values.options().dtype(at::kByte));
  const float* value = values.const_data_ptr<float>();
  const float* middle = middles.const_data_ptr<float>();
  auto* code = codes.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, values.numel(), 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      unsigned found = 0;
      for (unsigned step = 128; step > 0; step /= 2) {
        found += middle[found + step - 1] >= value[i] ? 0 : step;
      }
      code[i] = static_cast<uint8_t>(found);
    }
  });
  return codes;
}

}  // namespace

at::Tensor dynamic_map(bool is_signed) {
  std::vector<float> values = {0, 1};
  for (int i = 0; i < kExponents; ++i) {
    const int items = 1 << (is_signed ? i : i + 1);
    const double scale = std::pow(10.0, i - (kExponents - 1));
    for (int k = 0; k < items; ++k) {
      const double step = 0.9 / items;
      const auto mean = static_cast<float>(scale * (0.1 + step * (k + 0.5)));
      values.push_back(mean);
      if (is_signed) values.push_back(-mean);
    }
  }
  std::sort(values.begin(), values.end());
  return at::tensor(values);
}

QuantizedMoment::QuantizedMoment(int64_t elements, bool is_signed, at::Device device)
    : absmax_(at::zeros({blocks_of(elements)}, at::TensorOptions(device).dtype(at::kFloat))),
      map_(dynamic_map(is_signed)) {
  const int64_t zero = map_.eq(0).nonzero().item<int64_t>();
  codes_ = at::zeros({elements}, at::TensorOptions(device).dtype(at::kByte)).fill_(zero);
  middles_ = ((map_.narrow(0, 0, 255) + map_.narrow(0, 1, 255)) / 2).to(device);
  map_ = map_.to(device);
}

at::Tensor QuantizedMoment::load(int64_t begin, int64_t count) const {
  const at::Tensor codes = codes_.narrow(0, begin, count).to(at::kInt);
  const at::Tensor scales = absmax_.narrow(0, begin / kBlock, blocks_of(count)).unsqueeze(1);
  return (in_blocks(map_.index_select(0, codes)) * scales).view(-1).narrow(0, 0, count);
}

void QuantizedMoment::store(int64_t begin, const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  const int64_t count = values.size(0);
  const at::Tensor blocks = in_blocks(values);
  const at::Tensor largest = blocks.abs().amax(1);
  absmax_.narrow(0, begin / kBlock, largest.size(0)).copy_(largest);
  const at::Tensor divisor = at::where(largest.eq(0), 1.0, largest).unsqueeze(1);
  const at::Tensor codes = nearest_codes(blocks / divisor, middles_);
  codes_.narrow(0, begin, count).copy_(codes.view(-1).narrow(0, 0, count));
}

}  // namespace llama2zh
