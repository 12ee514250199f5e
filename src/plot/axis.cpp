// Ticks at multiples of 1, 2 or 5 x 10^k (Heckbert, "Nice numbers for graph labels", 1990).
#include "plot/axis.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// The smallest of 1, 2, 5 x 10^k that is at least `rough`.
double nice_step(double rough) {
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

void add_linear_ticks(Axis& axis, int wanted) {
  const double step = nice_step((axis.high - axis.low) / wanted);
  const double slack = 1e-6 * step;
  for (double i = std::floor(axis.low / step); i * step <= axis.high + slack; ++i) {
    if (i * step < axis.low - slack) continue;
    axis.ticks.push_back(i * step);
    axis.labels.push_back(tick_label(i * step, step));
  }
}

// A linear axis ends a little outside the data, but does not go below zero for that.
void add_room(Axis& axis) {
  const double room = 0.04 * (axis.high - axis.low);
  axis.low = axis.low >= 0 ? std::max(0.0, axis.low - room) : axis.low - room;
  axis.high += room;
}

void add_logarithmic_ticks(Axis& axis, int wanted) {
  const double decades = std::log10(axis.high / axis.low);
  const double every = std::max(1.0, std::ceil(decades / wanted));
  const std::vector<double> factors = decades > 3 ? std::vector<double>{1}
                                      : decades > 1.2
                                          ? std::vector<double>{1, 2, 5}
                                          : std::vector<double>{1, 1.5, 2, 3, 4, 5, 6, 8};
  for (double k = std::floor(std::log10(axis.low)); k <= std::log10(axis.high) + 1e-9; k += every) {
    for (const double factor : factors) {
      const double tick = factor * std::pow(10, k);
      if (tick < axis.low * (1 - 1e-9) || tick > axis.high * (1 + 1e-9)) continue;
      axis.ticks.push_back(tick);
      axis.labels.push_back(tick_label(tick, 0));
    }
  }
}

}  // namespace

double Axis::place(double value) const {
  if (logarithmic) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

Axis make_axis(std::vector<double> values, bool logarithmic, bool tight, int wanted) {
  std::erase_if(values, [&](double value) { return logarithmic && value <= 0; });
  if (values.empty()) values = logarithmic ? std::vector<double>{1, 10} : std::vector<double>{0, 1};
  Axis axis;
  axis.logarithmic = logarithmic;
  const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
  axis.low = *lowest;
  axis.high = *highest;
  if (logarithmic) {
    const double room = axis.high > axis.low ? (tight ? 1 : 1.05) : 2;
    axis.low /= room;
    axis.high *= room;
    add_logarithmic_ticks(axis, wanted);
  } else {
    if (axis.high - axis.low <= 1e-12 * std::abs(axis.high)) {
      const double room = axis.high == 0 ? 1 : 0.1 * std::abs(axis.high);
      axis.low -= room;
      axis.high += room;
    }
    if (!tight) add_room(axis);
    add_linear_ticks(axis, wanted);
  }
  return axis;
}

std::string tick_label(double value, double step) {
  const double size = std::abs(value);
  char text[48];
  if (size <= 1e-9 * step) return "0";
  if (size >= 1e6) {
    const bool billions = size >= 1e9;
    std::snprintf(text, sizeof text, "%.6g%s", value / (billions ? 1e9 : 1e6),
                  billions ? "G" : "M");
    return text;
  }
  if ((step == 0 || step >= 1) && size >= 1000) return with_thousands(std::llround(value));
  if (size < 1e-3) {
    std::snprintf(text, sizeof text, "%.3g", value);
    return text;
  }
  if (step == 0) {
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
  }
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 9);
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace llama2zh
