#pragma once

#include <string>
#include <vector>

namespace llama2zh {

// One axis of a panel: which values it spans, where its ticks are, and how values become places.
struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  std::vector<double> ticks;        // ascending, within low ... high
  std::vector<std::string> labels;  // of the ticks
  // 0 at `low`, 1 at `high`.
  double place(double value) const;
};

// An axis over the values with round ticks, about `wanted` of them (1, 2 or 5 times a power of ten
// apart; on a logarithmic axis at 1, 2, 5 or at whole decades). The axis ends a little outside the
// data or, with `tight`, at the data; a single value gets some room around it. A logarithmic axis
// spans the positive values only.
Axis make_axis(std::vector<double> values, bool logarithmic, bool tight, int wanted);

// 1,500 / 0.05 / 2e-05 / 1.5M: with the digits that tell it from its neighbours `step` away; 0: with
// as few as it takes.
std::string tick_label(double value, double step);

}  // namespace llama2zh
