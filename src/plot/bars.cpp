#include "llama2zh/plot/bars.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "plot/svg.h"

namespace llama2zh {
namespace {

constexpr std::array<const char*, 6> kSeriesColours = {"#2563eb", "#f59e0b", "#059669",
                                                       "#dc2626", "#7c3aed", "#475569"};
constexpr double kBar = 46, kBetween = 34, kBarsLeft = 24, kBarsTop = 64, kBarsHeight = 190,
                 kBelow = 34;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

const char* colour(size_t series) { return kSeriesColours[series % kSeriesColours.size()]; }

double legend_width(const std::vector<std::string>& series) {
  double width = 0;
  for (const std::string& name : series) width += 30 + text_width(name, 12);
  return width;
}

void draw_legend(Svg& svg, const std::vector<std::string>& series) {
  double x = kBarsLeft;
  for (size_t i = 0; i < series.size(); ++i) {
    svg.rectangle(x, 34, 12, 12, colour(i));
    svg.text(x + 17, 44, series[i], {});
    x += 30 + text_width(series[i], 12);
  }
}

}  // namespace

std::string draw_bars(const std::string& title, const std::vector<std::string>& series,
                      const std::vector<BarGroup>& groups) {
  double top = 0, group_width = kBar * static_cast<double>(series.size());
  for (const BarGroup& group : groups) {
    group_width = std::max(group_width, text_width(group.label, 12));
    for (const double value : group.values)
      if (std::isfinite(value)) top = std::max(top, value);
  }
  const double all = static_cast<double>(groups.size()) * (group_width + kBetween);
  const double width = kBarsLeft + std::max({all, legend_width(series) + kBarsLeft,
                                             text_width(title, 15) + kBarsLeft});
  Svg svg(width, kBarsTop + kBarsHeight + kBelow, title);
  svg.text(kBarsLeft, 22, title, {.size = 15, .colour = "#111827", .bold = true});
  draw_legend(svg, series);
  double x = kBarsLeft;
  for (const BarGroup& group : groups) {
    const double bars = kBar * static_cast<double>(group.values.size());
    double left = x + (group_width - bars) / 2;
    for (size_t i = 0; i < group.values.size(); ++i, left += kBar) {
      const double value = group.values[i];
      if (!std::isfinite(value)) continue;
      const double height = top > 0 ? (kBarsHeight - 20) * value / top : 0;
      svg.rectangle(left + 3, kBarsTop + kBarsHeight - height, kBar - 6, height, colour(i));
      svg.text(left + kBar / 2, kBarsTop + kBarsHeight - height - 5, number(value),
               {.size = 11, .anchor = "middle"});
    }
    svg.text(x + group_width / 2, kBarsTop + kBarsHeight + 20, group.label, {.anchor = "middle"});
    x += group_width + kBetween;
  }
  svg.line(kBarsLeft, kBarsTop + kBarsHeight, width - kBarsLeft, kBarsTop + kBarsHeight,
           {.colour = "#9ca3af"});
  return svg.finish();
}

}  // namespace llama2zh
