// A row is gone through while it is in cache: largest, sum of e^(z - largest), and the gradient
//   (1 + 2 c L) p - (1 - e) onehot(label) - e / V  in the logits' place.
#include "kernels/softmax_loss.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

struct RowSums {
  float log_sum_exp = 0, mean = 0;
};

template <typename T>
RowSums sums_of_row(const T* z, int64_t width, bool mean) {
  const int64_t whole = width / lanes::kLanes * lanes::kLanes;
  lanes::Floats top = lanes::spread(-std::numeric_limits<float>::infinity()), total{};
  for (int64_t i = 0; i < whole; i += lanes::kLanes) {
    const lanes::Floats v = lanes::load(z + i);
    top = lanes::larger(top, v);
    if (mean) total += v;
  }
  float largest = lanes::largest(top), rest = lanes::sum(total);
  for (int64_t i = whole; i < width; ++i) {
    const float v = z[i];
    largest = v > largest ? v : largest;
    rest += mean ? v : 0;
  }
  lanes::Floats exps{};
  lanes::for_lanes(whole,
                   [&](int64_t i, int64_t) { exps += lanes::exp(lanes::load(z + i) - largest); });
  float sum = lanes::sum(exps);
  for (int64_t i = whole; i < width; ++i) {
    sum += lanes::exp(lanes::spread(static_cast<float>(z[i]) - largest))[0];
  }
  return {largest + std::log(sum), rest / static_cast<float>(width)};
}

template <typename T>
void row_gradient(T* z, int64_t width, int64_t label, float log_sum_exp,
                  const SoftmaxLossTerms& terms) {
  const auto e = static_cast<float>(terms.label_smoothing);
  const float share = 1 + 2 * static_cast<float>(terms.z_loss) * log_sum_exp;
  const float everywhere = e / static_cast<float>(width);
  const float at_label =
      lanes::exp(lanes::spread(static_cast<float>(z[label]) - log_sum_exp))[0] * share -
      everywhere - (1 - e);
  lanes::for_lanes(width, [&](int64_t i, int64_t count) {
    const lanes::Floats p = lanes::exp(lanes::load_up_to(z + i, count) - log_sum_exp);
    lanes::store_up_to(z + i, p * share - everywhere, count);
  });
  lanes::store_part(z + label, lanes::spread(at_label), 1);
}

template <typename T>
double loss_of_rows(T* logits, const int64_t* labels, int64_t rows, int64_t width,
                    const SoftmaxLossTerms& terms, bool gradient) {
  std::vector<double> losses(static_cast<size_t>(rows));
  const double e = terms.label_smoothing;
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      for (int64_t row = begin; row < end; ++row) {
        T* z = logits + row * width;
        const int64_t label = labels[row];
        const RowSums sums = sums_of_row(z, width, e > 0);
        const double lse = sums.log_sum_exp;
        losses[static_cast<size_t>(row)] = lse - (1 - e) * static_cast<double>(z[label]) -
                                           e * static_cast<double>(sums.mean) +
                                           terms.z_loss * lse * lse;
        if (gradient) row_gradient(z, width, label, sums.log_sum_exp, terms);
      }
    });
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace

bool has_softmax_loss_kernel(const at::Tensor& logits) {
  return logits.is_cpu() && logits.is_contiguous() &&
         (logits.scalar_type() == at::kFloat || logits.scalar_type() == at::kBFloat16);
}

double softmax_loss_(at::Tensor& logits, const at::Tensor& labels, const SoftmaxLossTerms& terms,
                     bool gradient) {
  TORCH_CHECK(has_softmax_loss_kernel(logits) && labels.is_contiguous() &&
                  labels.scalar_type() == at::kLong && labels.numel() == logits.size(0),
              "softmax_loss_: expected contiguous CPU logits [n, V] and labels [n]");
  const int64_t rows = logits.size(0), width = logits.size(1);
  const int64_t* label = labels.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i) {
    TORCH_CHECK(label[i] >= 0 && label[i] < width, "softmax_loss_: label ", label[i],
                " is not below ", width);
  }
  if (logits.scalar_type() == at::kFloat) {
    return loss_of_rows(logits.data_ptr<float>(), label, rows, width, terms, gradient);
  }
  return loss_of_rows(logits.data_ptr<c10::BFloat16>(), label, rows, width, terms, gradient);
}

}  // namespace llama2zh
