#pragma once

#include <string>
#include <vector>

namespace llama2zh {

struct BarGroup {
  std::string label;           // below the group's bars
  std::vector<double> values;  // one a series; NaN draws none
};

// Groups of bars side by side, from zero, as an SVG document: each bar says its value, the legend
// names the series. Values must not be negative.
std::string draw_bars(const std::string& title, const std::vector<std::string>& series,
                      const std::vector<BarGroup>& groups);

}  // namespace llama2zh
