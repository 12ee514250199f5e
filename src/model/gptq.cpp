// GPTQ in blocks of columns: within a block each row is worked on alone (its weights and the block
// of the factor stay in cache), the columns behind the block are corrected by one product. With U
// the upper Cholesky factor of the inverse hessian: e = (w_j - q_j) / U_jj, w_k -= e U_jk for k > j.
// Scales of a group are set when its first column's turn has come, from the weights as corrected by
// then; one scale a row from the weights as they were.
#include "llama2zh/model/gptq.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cholesky_inverse.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "scale_search.h"

namespace llama2zh {
namespace {

constexpr int64_t kBlock = 128;  // columns; a multiple of every group size
constexpr int kMostDamping = 6;  // tries, each with ten times the damping

// The upper factor of the inverse of hessian + damping.
at::Tensor inverse_factor(const at::Tensor& hessian, double damping) {
  const at::Tensor diagonal = hessian.diagonal();
  const double mean = diagonal.mean().item<double>();
  if (!std::isfinite(mean)) fail_data("gptq", "the calibration inputs are not finite numbers");
  for (int i = 0; i < kMostDamping; ++i, damping *= 10) {
    at::Tensor damped = hessian.clone();
    damped.diagonal().add_(std::max(mean, 1e-12) * damping);
    const auto [lower, failed] = at::linalg_cholesky_ex(damped);
    if (failed.item<int>() != 0) continue;
    const auto [upper, failed_again] =
        at::linalg_cholesky_ex(at::cholesky_inverse(lower), /*upper=*/true);
    if (failed_again.item<int>() == 0) return upper.contiguous();
  }
  fail_data("gptq", "the calibration inputs give no positive definite matrix",
            "give more calibration text");
}

struct Work {
  at::Tensor weight;   // [out, in] fp32, corrected as it goes
  at::Tensor factor;   // [in, in]
  at::Tensor weights;  // of errors: the hessian's diagonal [in]
  at::Tensor codes;    // [out, in] uint8
  at::Tensor scales;   // [out, groups] fp32
  int64_t group = 0;   // columns of one scale
  CodeGrid grid;
};

// Columns [begin, end) of one row; what each change costs the later ones goes into errors.
void quantize_row(Work& work, int64_t row, int64_t begin, int64_t end, float* errors) {
  const int64_t in = work.weight.size(1), groups = work.scales.size(1);
  float* const w = work.weight.mutable_data_ptr<float>() + row * in;
  const float* const factor = work.factor.const_data_ptr<float>();
  const float* const importance = work.weights.const_data_ptr<float>();
  uint8_t* const codes = work.codes.mutable_data_ptr<uint8_t>() + row * in;
  float* const scales = work.scales.mutable_data_ptr<float>() + row * groups;
  for (int64_t j = begin; j < end; ++j) {
    float& scale = scales[j / work.group];
    if (groups > 1 && j % work.group == 0) {
      scale = best_scale(w + j, importance + j, std::min(work.group, in - j), work.grid);
    }
    const float code = work.grid.code(w[j], scale);
    const float* const upper = factor + j * in;
    const float error = (w[j] - (code - work.grid.middle) * scale) / upper[j];
    codes[j] = static_cast<uint8_t>(code);
    errors[j - begin] = error;
    for (int64_t k = j + 1; k < end; ++k) w[k] -= error * upper[k];
  }
}

void scale_rows(Work& work) {
  const int64_t in = work.weight.size(1);
  const float* const w = work.weight.const_data_ptr<float>();
  const float* const importance = work.weights.const_data_ptr<float>();
  float* const scales = work.scales.mutable_data_ptr<float>();
  at::parallel_for(0, work.weight.size(0), 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      scales[row] = best_scale(w + row * in, importance, in, work.grid);
  });
}

void quantize_columns(Work& work) {
  const int64_t out = work.weight.size(0), in = work.weight.size(1);
  if (work.scales.size(1) == 1) scale_rows(work);
  for (int64_t begin = 0; begin < in; begin += kBlock) {
    const int64_t end = std::min(in, begin + kBlock);
    const at::Tensor errors = at::empty({out, end - begin}, work.weight.options());
    float* const error = errors.mutable_data_ptr<float>();
    at::parallel_for(0, out, 16, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        quantize_row(work, row, begin, end, error + row * (end - begin));
    });
    if (end == in) break;
    at::Tensor rest = work.weight.narrow(1, end, in - end);
    rest.sub_(at::mm(errors, work.factor.narrow(0, begin, end - begin).narrow(1, end, in - end)));
  }
}

}  // namespace

QuantizedMatrix gptq_quantize(const at::Tensor& weight, const at::Tensor& hessian, int bits,
                              int64_t group_size, double damping) {
  const int64_t out = weight.size(0), in = weight.size(1);
  TORCH_CHECK(hessian.size(0) == in && hessian.size(1) == in, "gptq: the hessian's shape");
  Work work{{}, {}, {}, {}, {}, 0, CodeGrid(bits, group_size)};
  work.weight = weight.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous();
  if (!work.weight.isfinite().all().item<bool>()) fail_data("gptq", "a weight is not finite");
  work.factor = inverse_factor(hessian, damping);
  const double mean = hessian.diagonal().mean().item<double>();
  work.weights = hessian.diagonal().add(damping * mean + 1e-30).contiguous();
  work.codes = at::empty({out, in}, at::kByte);
  work.group = group_size == -1 ? in : group_size;
  work.scales = at::empty({out, (in + work.group - 1) / work.group}, at::kFloat);
  quantize_columns(work);
  const at::ScalarType stored = group_size == -1 ? at::kFloat : at::kHalf;
  return pack({work.codes, work.scales.to(stored), {}}, bits, group_size);
}

}  // namespace llama2zh
