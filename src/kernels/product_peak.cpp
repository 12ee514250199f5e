// [1024, 2048] x [2048, 2048] on a CPU: large enough for the kernel's best rate, small enough for a
// start. The best time counts, since other work on the machine only ever makes one slower.
#include "llama2zh/kernels/product_peak.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

constexpr double kMeasureSeconds = 0.2;
constexpr int kFewestProducts = 3;

struct ProductShape {
  int64_t rows, width;
  double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(width * width);
  }
};

// Numbers that differ, without a draw from the run's random generator.
at::Tensor ramp(int64_t rows, int64_t columns, at::ScalarType type, at::Device device) {
  const at::Tensor line = at::linspace(-1, 1, rows * columns, at::device(device)).to(type);
  const at::Tensor x = line.view({rows, columns});
  return x.to(large_product_type(x));
}

double seconds_of_product(const at::Tensor& x, const at::Tensor& weight) {
  const auto start = std::chrono::steady_clock::now();
  const at::Tensor y = at::mm(x, weight.t());
  if (!y.is_cpu()) y.view(-1)[0].item<float>();  // waits for the device
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double measure_product_peak(at::ScalarType type, at::Device device) {
  const at::NoGradGuard no_grad;
  const ProductShape shape = device.is_cpu() ? ProductShape{1024, 2048} : ProductShape{8192, 8192};
  const at::Tensor x = ramp(shape.rows, shape.width, type, device);
  const at::Tensor weight = ramp(shape.width, shape.width, type, device);
  seconds_of_product(x, weight);  // the first one prepares
  double best = std::numeric_limits<double>::infinity(), spent = 0;
  for (int i = 0; i < kFewestProducts || spent < kMeasureSeconds; ++i) {
    const double seconds = seconds_of_product(x, weight);
    best = std::min(best, seconds);
    spent += seconds;
  }
  return shape.flops() / best;
}

}  // namespace llama2zh
