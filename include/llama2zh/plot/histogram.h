#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace llama2zh {

struct HistogramMark {
  double x = 0;
  std::string name;  // beside its vertical line
};

struct HistogramOptions {
  std::string title, x, y;  // x and y name the axes
  std::vector<HistogramMark> marks;
  double width = 960, height = 560;
};

// How often each value occurs, as bars of equal width in an SVG document; values above 0. Where the
// largest is more than twenty times the median, the axis is logarithmic and the bars equally wide on it.
std::string draw_histogram(const std::map<int64_t, int64_t>& counts,
                           const HistogramOptions& options);

}  // namespace llama2zh
