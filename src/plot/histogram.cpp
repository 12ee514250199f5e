// Fifty bars at most; between whole numbers a bar is never narrower than one of them.
#include "llama2zh/plot/histogram.h"

#include <algorithm>
#include <cmath>

#include "llama2zh/base/text.h"
#include "plot/axis.h"
#include "plot/svg.h"

namespace llama2zh {
namespace {

constexpr int kBars = 50;
constexpr double kLeft = 90, kRight = 30, kTop = 60, kBottom = 70;
constexpr const char* kBarColour = "#0072b2";
constexpr const char* kMarkColour = "#d55e00";

struct Bar {
  double from = 0, to = 0;
  int64_t count = 0;
};

int64_t median(const std::map<int64_t, int64_t>& counts) {
  int64_t all = 0;
  for (const auto& [value, count] : counts) all += count;
  int64_t left = all / 2;
  for (const auto& [value, count] : counts) {
    left -= count;
    if (left < 0) return value;
  }
  return 0;
}

std::vector<Bar> make_bars(const std::map<int64_t, int64_t>& counts, bool logarithmic) {
  const auto low = static_cast<double>(counts.begin()->first);
  const double high = static_cast<double>(counts.rbegin()->first) + 1;
  std::vector<Bar> bars;
  double from = low;
  for (int i = 1; i <= kBars; ++i) {
    const double share = static_cast<double>(i) / kBars;
    const double edge =
        logarithmic ? low * std::pow(high / low, share) : low + (high - low) * share;
    const double to = i == kBars ? high : std::round(edge);
    if (to <= from) continue;
    Bar bar{from, to, 0};
    const auto end = counts.lower_bound(static_cast<int64_t>(to));
    for (auto at = counts.lower_bound(static_cast<int64_t>(from)); at != end; ++at)
      bar.count += at->second;
    bars.push_back(bar);
    from = to;
  }
  return bars;
}

// Places on the picture.
struct Area {
  Axis x, y;
  double width = 0, height = 0;
  double at_x(double value) const { return kLeft + x.place(value) * width; }
  double at_y(double value) const { return kTop + (1 - y.place(value)) * height; }
};

void draw_axes(Svg& svg, const Area& area, const HistogramOptions& options) {
  const TextStyle small{.size = 12, .colour = "#374151", .anchor = "middle"};
  for (size_t i = 0; i < area.y.ticks.size(); ++i) {
    const double y = area.at_y(area.y.ticks[i]);
    svg.line(kLeft, y, kLeft + area.width, y, {.colour = "#e5e7eb"});
    svg.text(kLeft - 8, y + 4, area.y.labels[i], {.size = 12, .anchor = "end"});
  }
  for (size_t i = 0; i < area.x.ticks.size(); ++i)
    svg.text(area.at_x(area.x.ticks[i]), kTop + area.height + 20, area.x.labels[i], small);
  svg.text(kLeft + area.width / 2, kTop + area.height + 46, options.x,
           {.size = 14, .anchor = "middle"});
  svg.text(24, kTop + area.height / 2, options.y, {.size = 14, .anchor = "middle", .rotated = -90});
  svg.text(options.width / 2, 28, options.title,
           {.size = 17, .colour = "#111827", .anchor = "middle", .bold = true});
}

// Names stand at different heights, for marks may be close to each other.
void draw_marks(Svg& svg, const Area& area, const std::vector<HistogramMark>& marks) {
  double y = kTop + 16;
  for (const HistogramMark& mark : marks) {
    if (mark.x < area.x.low || mark.x > area.x.high) continue;
    const double x = area.at_x(mark.x);
    svg.line(x, kTop, x, kTop + area.height,
             {.colour = kMarkColour, .width = 1.5, .dashes = "6 3"});
    const bool left = x > kLeft + 0.8 * area.width;
    svg.text(left ? x - 6 : x + 6, y, mark.name,
             {.size = 12, .colour = kMarkColour, .anchor = left ? "end" : "start"});
    y += 18;
  }
}

}  // namespace

std::string draw_histogram(const std::map<int64_t, int64_t>& counts,
                           const HistogramOptions& options) {
  Svg svg(options.width, options.height, options.title);
  svg.rectangle(0, 0, options.width, options.height, "#ffffff");
  if (counts.empty()) {
    svg.text(options.width / 2, options.height / 2, cat(options.title, ": no rows"),
             {.size = 14, .anchor = "middle"});
    return svg.finish();
  }
  const bool logarithmic =
      counts.begin()->first > 0 && counts.rbegin()->first > 20 * median(counts);
  const std::vector<Bar> bars = make_bars(counts, logarithmic);
  int64_t highest = 0;
  for (const Bar& bar : bars) highest = std::max(highest, bar.count);
  Area area{make_axis({bars.front().from, bars.back().to}, logarithmic, /*tight=*/true, 10),
            make_axis({0, static_cast<double>(highest)}, false, /*tight=*/false, 6),
            options.width - kLeft - kRight, options.height - kTop - kBottom};
  draw_axes(svg, area, options);
  for (const Bar& bar : bars) {
    const double left = area.at_x(bar.from), top = area.at_y(static_cast<double>(bar.count));
    svg.rectangle(left, top, std::max(0.5, area.at_x(bar.to) - left - 1), kTop + area.height - top,
                  kBarColour);
  }
  draw_marks(svg, area, options.marks);
  svg.line(kLeft, kTop + area.height, kLeft + area.width, kTop + area.height,
           {.colour = "#9ca3af"});
  return svg.finish();
}

}  // namespace llama2zh
