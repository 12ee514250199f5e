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
#include <array>
#include <bit>
#include <cmath>
#include <limits>
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

// [256] -> [255], between neighbours.
at::Tensor middles_of(const at::Tensor& map) {
  return (map.narrow(0, 0, 255) + map.narrow(0, 1, 255)) / 2;
}

// The code of a value without a search: the upper half of a float's bits (sign, exponent, seven bits of mantissa) gives
// the code of the lowest value that has them; the map has at most one border among them.
class CodeTable {
 public:
  explicit CodeTable(const at::Tensor& middles)
      : middles_(middles.const_data_ptr<float>(),
                 middles.const_data_ptr<float>() + middles.numel()) {
    middles_.push_back(std::numeric_limits<float>::infinity());
    for (uint32_t key = 0; key < codes_.size(); ++key) {
      const bool negative = key >= 0x8000;
      const auto lowest = std::bit_cast<float>((key << 16) | (negative ? 0xffffU : 0U));
      codes_[key] = static_cast<uint8_t>(
          std::lower_bound(middles_.begin(), middles_.end() - 1, lowest) - middles_.begin());
    }
  }
  // What bucketize gives.
  uint8_t nearest(float value) const {
    const unsigned code = codes_[std::bit_cast<uint32_t>(value) >> 16];
    return static_cast<uint8_t>(code + (middles_[code] < value ? 1 : 0));
  }

 private:
  std::vector<float> middles_;
  std::array<uint8_t, 65536> codes_{};
};

const CodeTable& code_table(bool is_signed) {
  static const CodeTable tables[] = {CodeTable(middles_of(dynamic_map(false))),
                                     CodeTable(middles_of(dynamic_map(true)))};
  return tables[is_signed ? 1 : 0];
}

constexpr int64_t kBlocksAThread = 64;

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
    : is_signed_(is_signed),
      absmax_(at::zeros({blocks_of(elements)}, at::TensorOptions(device).dtype(at::kFloat))),
      map_(dynamic_map(is_signed)) {
  const int64_t zero = map_.eq(0).nonzero().item<int64_t>();
  codes_ = at::zeros({elements}, at::TensorOptions(device).dtype(at::kByte)).fill_(zero);
  middles_ = middles_of(map_).to(device);
  map_ = map_.to(device);
}

at::Tensor QuantizedMoment::load(int64_t begin, int64_t count) const {
  if (codes_.is_cpu()) return load_on_cpu(begin, count);
  const at::Tensor codes = codes_.narrow(0, begin, count).to(at::kInt);
  const at::Tensor scales = absmax_.narrow(0, begin / kBlock, blocks_of(count)).unsqueeze(1);
  return (in_blocks(map_.index_select(0, codes)) * scales).view(-1).narrow(0, 0, count);
}

at::Tensor QuantizedMoment::load_on_cpu(int64_t begin, int64_t count) const {
  at::Tensor values = at::empty({count}, map_.options());
  const uint8_t* code = codes_.const_data_ptr<uint8_t>() + begin;
  const float* scale = absmax_.const_data_ptr<float>() + begin / kBlock;
  const float* map = map_.const_data_ptr<float>();
  float* value = values.mutable_data_ptr<float>();
  at::parallel_for(0, blocks_of(count), kBlocksAThread, [&](int64_t first, int64_t end) {
    for (int64_t block = first; block < end; ++block) {
      const int64_t last = std::min(count, (block + 1) * kBlock);
      for (int64_t i = block * kBlock; i < last; ++i) value[i] = map[code[i]] * scale[block];
    }
  });
  return values;
}

void QuantizedMoment::store(int64_t begin, const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  if (codes_.is_cpu()) return store_on_cpu(begin, values.contiguous());
  const int64_t count = values.size(0);
  const at::Tensor blocks = in_blocks(values);
  const at::Tensor largest = blocks.abs().amax(1);
  absmax_.narrow(0, begin / kBlock, largest.size(0)).copy_(largest);
  const at::Tensor divisor = at::where(largest.eq(0), 1.0, largest).unsqueeze(1);
  const at::Tensor codes = at::bucketize(blocks / divisor, middles_, /*out_int32=*/true);
  codes_.narrow(0, begin, count).copy_(codes.view(-1).narrow(0, 0, count));
}

void QuantizedMoment::store_on_cpu(int64_t begin, const at::Tensor& values) {
  const int64_t count = values.size(0);
  const CodeTable& table = code_table(is_signed_);
  const float* value = values.const_data_ptr<float>();
  uint8_t* code = codes_.mutable_data_ptr<uint8_t>() + begin;
  float* scale = absmax_.mutable_data_ptr<float>() + begin / kBlock;
  at::parallel_for(0, blocks_of(count), kBlocksAThread, [&](int64_t first, int64_t end) {
    for (int64_t block = first; block < end; ++block) {
      const int64_t from = block * kBlock, last = std::min(count, from + kBlock);
      float largest = 0;
      for (int64_t i = from; i < last; ++i) largest = std::max(largest, std::abs(value[i]));
      scale[block] = largest;
      const float divisor = largest == 0 ? 1 : largest;
      for (int64_t i = from; i < last; ++i) code[i] = table.nearest(value[i] / divisor);
    }
  });
}

}  // namespace llama2zh
