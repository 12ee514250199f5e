#include "llama2zh/kernels/logit_row.h"

#include <algorithm>
#include <limits>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
using Mask = int32_t __attribute__((vector_size(64)));

bool any(Mask mask) {
  int64_t parts[8];
  std::memcpy(parts, &mask, sizeof mask);
  int64_t all = 0;
  for (const int64_t part : parts) all |= part;
  return all != 0;
}

// The first `count` of sixteen, -inf behind them.
lanes::Floats load_logits(const float* p, int64_t count) {
  if (count == lanes::kLanes) return lanes::load(p);
  float buffer[lanes::kLanes];
  std::fill_n(buffer, lanes::kLanes, kNone);
  std::copy_n(p, count, buffer);
  return lanes::load(buffer);
}

lanes::Floats exp_of(lanes::Floats logits, lanes::Floats highest) {
  const lanes::Floats result = lanes::exp(logits - highest);
  return logits == kNone ? lanes::Floats{} : result;
}

float exp_sum_of_block(const float* logits, int64_t count, lanes::Floats highest) {
  lanes::Floats sums{};
  lanes::for_lanes(
      count, [&](int64_t i, int64_t n) { sums += exp_of(load_logits(logits + i, n), highest); });
  return lanes::sum(sums);
}

// Calls step(first, count) for each block of kExpBlock.
template <typename Step>
void for_blocks(std::span<const float> logits, const Step& step) {
  const auto size = static_cast<int64_t>(logits.size());
  for (int64_t first = 0; first < size; first += kExpBlock)
    step(first, std::min(kExpBlock, size - first));
}

}  // namespace

HighestLogit highest_logit(std::span<const float> logits) {
  HighestLogit best{0, kNone, false};
  int64_t best_block = 0;
  Mask nan{};
  run_with_isa([&] {
    for_blocks(logits, [&](int64_t first, int64_t count) {
      lanes::Floats top = lanes::spread(kNone);
      lanes::for_lanes(count, [&](int64_t i, int64_t n) {
        const lanes::Floats v = load_logits(logits.data() + first + i, n);
        nan |= v != v;
        top = lanes::larger(v, top);
      });
      const float largest = lanes::largest(top);
      if (!(largest > best.value)) return;
      best.value = largest;
      best_block = first;
    });
  });
  best.any_nan = any(nan);
  const auto begin = logits.begin() + best_block;
  const auto found = std::find(begin, logits.end(), best.value);
  if (found != logits.end()) best.index = found - logits.begin();
  return best;
}

double exp_block_sums(std::span<const float> logits, float highest, std::vector<double>& sums) {
  sums.clear();
  double total = 0;
  for_blocks(logits, [&](int64_t first, int64_t count) {
    float sum = 0;
    run_with_isa(
        [&] { sum = exp_sum_of_block(logits.data() + first, count, lanes::spread(highest)); });
    sums.push_back(sum);
    total += sum;
  });
  return total;
}

double exp_sum(std::span<const float> logits, float highest) {
  double total = 0;
  run_with_isa([&] {
    for_blocks(logits, [&](int64_t first, int64_t count) {
      total += exp_sum_of_block(logits.data() + first, count, lanes::spread(highest));
    });
  });
  return total;
}

void exp_row(std::span<const float> logits, float highest, float* out) {
  run_with_isa([&] {
    lanes::for_lanes(static_cast<int64_t>(logits.size()), [&](int64_t i, int64_t n) {
      const lanes::Floats v = load_logits(logits.data() + i, n);
      lanes::store_up_to(out + i, exp_of(v, lanes::spread(highest)), n);
    });
  });
}

void divide_row(std::span<float> logits, float divisor) {
  run_with_isa([&] {
    lanes::for_lanes(static_cast<int64_t>(logits.size()), [&](int64_t i, int64_t n) {
      float* const p = logits.data() + i;
      lanes::store_up_to(p, load_logits(p, n) / divisor, n);
    });
  });
}

void drop_below(std::span<float> logits, float lowest) {
  run_with_isa([&] {
    lanes::for_lanes(static_cast<int64_t>(logits.size()), [&](int64_t i, int64_t n) {
      float* const p = logits.data() + i;
      const lanes::Floats v = load_logits(p, n);
      lanes::store_up_to(p, v < lowest ? lanes::spread(kNone) : v, n);
    });
  });
}

void ids_from(std::span<const float> logits, float lowest, std::vector<int32_t>& ids) {
  ids.clear();
  const float* const values = logits.data();
  bool here[kExpBlock / lanes::kLanes];
  for_blocks(logits, [&](int64_t first, int64_t count) {
    run_with_isa([&] {
      lanes::for_lanes(count, [&](int64_t i, int64_t n) {
        here[i / lanes::kLanes] = any(load_logits(values + first + i, n) >= lowest);
      });
    });
    lanes::for_lanes(count, [&](int64_t i, int64_t n) {
      if (!here[i / lanes::kLanes]) return;
      for (int64_t id = first + i; id < first + i + n; ++id)
        if (values[id] >= lowest) ids.push_back(static_cast<int32_t>(id));
    });
  });
}

}  // namespace llama2zh
