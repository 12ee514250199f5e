// The operators' conventions (ATen/native/native_functions.yaml, ATen/native/{cpu,cuda}/int4mm*):
//   4 bits: w = scale * (code - 8) + offset by groups of 32, 64, 128 or 256; a GPU packs bytes of two
//           codes, the even one in the high nibble, a CPU int32 codes; `out` in sixteens, `in` in 32s.
//   8 bits: w = scale * code by rows.
#include "llama2zh/kernels/operator_weight.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_convert_weight_to_int4pack.h>
#include <ATen/ops/_convert_weight_to_int4pack_for_cpu.h>
#include <ATen/ops/_weight_int4pack_mm.h>
#include <ATen/ops/_weight_int4pack_mm_for_cpu.h>
#include <ATen/ops/_weight_int8pack_mm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <map>
#include <mutex>
#include <string>

#include "kernels/quantized_tiles.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/reason.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kInnerTiles = 2;        // of the packing: `in` in 32s
constexpr int64_t kFewRows = 8;           // of 8 bits; above, a product of converted codes
constexpr double kTrialTolerance = 0.02;  // of bfloat16 products

// [n, in] -> [n, width], filled up with zeros.
at::Tensor widened(const at::Tensor& x, int64_t width) {
  return x.size(1) == width ? x.contiguous() : at::pad(x, {0, width - x.size(1)});
}

// Codes below 16 [out, in] -> the device's packing.
at::Tensor packed_nibbles(const at::Tensor& codes, at::Device device) {
  if (device.is_cpu()) {
    return at::_convert_weight_to_int4pack_for_cpu(codes.to(at::kInt), kInnerTiles);
  }
  const at::Tensor pairs = codes.view({codes.size(0), -1, 2});
  const at::Tensor bytes = pairs.select(2, 0).bitwise_left_shift(4).bitwise_or(pairs.select(2, 1));
  return at::_convert_weight_to_int4pack(bytes.contiguous().to(device), kInnerTiles);
}

// Deterministic, and not symmetric in anything.
QuantizedMatrix trial_matrix(int bits, int64_t group_size) {
  constexpr int64_t kOut = 48, kIn = 256;
  const at::Tensor wave = at::linspace(0, 900, kOut * kIn, at::kFloat).sin().view({kOut, kIn});
  return quantize_rows(wave * at::linspace(0.1, 2, kIn, at::kFloat), bits, group_size);
}

}  // namespace

OperatorWeight OperatorWeight::packed(const QuantizedMatrix& matrix, at::Device device) {
  // Whole blocks and groups: what is beyond the weight has scale 0 or a code of zero.
  const int64_t rows = matrix.blocks() * kBlockColumns;
  const QuantizedRows stored = unpack(matrix.to(at::kCPU));
  OperatorWeight result;
  result.out_ = matrix.out;
  result.bits_ = matrix.bits;
  result.padded_in_ = matrix.padded_in();
  if (matrix.columns.defined()) result.columns_ = matrix.columns.to(device);
  const int64_t middle = int64_t{1} << (matrix.bits - 1);
  const at::Tensor codes =
      at::pad(stored.codes, {0, result.padded_in_ - matrix.in, 0, rows - matrix.out}, "constant",
              static_cast<double>(middle));
  const at::Tensor scales = at::pad(stored.scales.to(at::kFloat), {0, 0, 0, rows - matrix.out});
  if (matrix.bits == 8) {
    result.codes_ = (codes.to(at::kShort) - middle).to(at::kChar).to(device);
    result.scales_ = scales.view({-1}).to(at::kBFloat16).to(device);
    return result;
  }
  result.group_size_ = matrix.per_row() ? kRowGroup : matrix.group_size;
  at::Tensor offsets = at::zeros_like(scales);
  if (stored.zeros.defined()) {
    const at::Tensor zeros = at::pad(stored.zeros, {0, 0, 0, rows - matrix.out});
    offsets = (middle - zeros.to(at::kFloat)) * scales;
  }
  const int64_t groups = result.padded_in_ / result.group_size_;
  result.scales_ = at::stack({scales, offsets}, -1)
                       .expand({rows, groups, 2})
                       .transpose(0, 1)
                       .to(at::kBFloat16)
                       .contiguous()
                       .to(device);
  result.codes_ = packed_nibbles(codes, device);
  return result;
}

bool OperatorWeight::works(int bits, int64_t group_size, at::Device device) {
  static std::mutex mutex;
  static std::map<std::string, bool> known;
  const std::lock_guard lock(mutex);
  const auto [found, is_new] =
      known.try_emplace(cat(device.str(), " ", bits, " ", group_size), false);
  if (!is_new) return found->second;
  std::string why = "its results differ from the weight's";
  try {
    const QuantizedMatrix matrix = trial_matrix(bits, group_size);
    const OperatorWeight weight = packed(matrix, device);
    const auto is_right = [&](int64_t rows) {
      const at::Tensor x = at::linspace(-1, 1, rows * matrix.in, at::kFloat).view({rows, -1}).cos();
      const at::Tensor expected = x.mm(dequantize(matrix).t());
      const at::Tensor y = weight.product(x.to(device, at::kBFloat16)).cpu().to(at::kFloat);
      return (y - expected).norm().item<double>() <
             kTrialTolerance * expected.norm().item<double>();
    };
    found->second = is_right(1) && is_right(2 * kFewRows);
  } catch (const c10::Error& error) {
    why = library_reason(error.what_without_backtrace());
  }
  if (!found->second) {
    log_warning(cat("libtorch's product of ", bits, "-bit weights can't be used on ", device.str(),
                    " (", why, "): such weights are dequantized for every product"));
  }
  return found->second;
}

std::optional<OperatorWeight> OperatorWeight::make(const QuantizedMatrix& matrix,
                                                   at::Device device) {
  if (matrix.bits == 8 && (!matrix.per_row() || matrix.zeros.defined())) return {};
  if (!works(matrix.bits, matrix.per_row() ? -1 : matrix.group_size, device)) return {};
  return packed(matrix, device);
}

at::Tensor OperatorWeight::product(const at::Tensor& x) const {
  if (x.size(0) == 0) return at::empty({0, out_}, x.options());
  const at::Tensor in = widened(columns_.defined() ? x.index_select(1, columns_) : x, padded_in_);
  at::Tensor y;
  if (bits_ == 4 && x.is_cpu())
    y = at::_weight_int4pack_mm_for_cpu(in, codes_, group_size_, scales_);
  else if (bits_ == 4)
    y = at::_weight_int4pack_mm(in, codes_, group_size_, scales_);
  else if (x.size(0) <= kFewRows)
    y = at::_weight_int8pack_mm(in, codes_, scales_);
  else
    y = at::linear(in, codes_.to(in.scalar_type())).mul_(scales_);
  return y.narrow(1, 0, out_).contiguous();
}

uint64_t OperatorWeight::bytes() const {
  return static_cast<uint64_t>(codes_.nbytes() + scales_.nbytes() +
                               (columns_.defined() ? columns_.nbytes() : 0));
}

}  // namespace llama2zh
