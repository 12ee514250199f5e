// Every thread adds up one run of memory, front to back, in huge pages where there are any.
#include "llama2zh/kernels/memory_rate.h"

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

constexpr int64_t kFloats = 128 * 1024 * 1024;
constexpr int64_t kSlice = kFloats / 16;  // timed: short, so that other work misses some of them
constexpr int kPasses = 8;

float sum_of(const float* p, int64_t count) {
  float result = 0;
  run_with_isa([&] {
    lanes::Floats sums[4] = {};
    for (int64_t i = 0; i + 4 * lanes::kLanes <= count; i += 4 * lanes::kLanes) {
      for (int64_t j = 0; j < 4; ++j) sums[j] += lanes::load(p + i + j * lanes::kLanes);
    }
    result = lanes::sum(sums[0] + sums[1] + sums[2] + sums[3]);
  });
  return result;
}

}  // namespace

double measure_memory_rate() {
  const at::Tensor memory = at::ones({kFloats}, at::kFloat);
  const auto* p = memory.const_data_ptr<float>();
  std::atomic<float> total{0};  // so that the sums are wanted
  double best = std::numeric_limits<double>::infinity();
  for (int64_t slice = 0; slice < kPasses * kFloats / kSlice; ++slice) {
    const float* from = p + slice * kSlice % kFloats;
    const auto start = std::chrono::steady_clock::now();
    at::parallel_for(0, kSlice, 1024, [&](int64_t begin, int64_t end) {
      total.store(sum_of(from + begin, end - begin), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return static_cast<double>(kSlice) * sizeof(float) / best;
}

}  // namespace llama2zh
