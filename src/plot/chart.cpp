// Panels from left to right and top to bottom. A panel from top to bottom: its name, the legend in
// as many rows as it takes, the plot area with the y axis's labels left of it, the x axis's labels
// and name.
#include "llama2zh/plot/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <set>

#include "llama2zh/base/text.h"
#include "plot/axis.h"
#include "plot/svg.h"

namespace llama2zh {
namespace {

// Told apart by colour-blind people too (Okabe and Ito's set, the yellow left out).
constexpr std::array<const char*, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#56b4e9", "#e69f00", "#555555"};
constexpr const char* kGridColour = "#e5e7eb";
constexpr const char* kFrameColour = "#9ca3af";
constexpr double kTextSize = 12, kLegendRow = 19, kLegendSample = 26, kMargin = 16;
constexpr size_t kMostPoints = 1500;

struct Box {
  double x = 0, y = 0, width = 0, height = 0;
};

// A curve with what it looks like.
struct Series {
  Curve raw, smooth;  // smooth is empty for evaluations and where there is nothing to smooth
  std::string label, colour;
  int shape = -1;  // marker; -1: none
};

std::string value_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string with_spaces(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

// Whether a quantity has noise to be smoothed away; the others would only be bent.
bool is_noisy(const std::string& key) {
  static const std::set<std::string> kExact = {
      "learning_rate", "lr", "epoch", "memory", "percentage", "total_tokens", "throughput"};
  return kExact.count(key) == 0;
}

Series make_series(const Curve& curve, const std::string& run, double weight) {
  Series series;
  series.raw = thinned(curve, kMostPoints);
  double last = curve.y.back();
  if (!curve.validation && weight > 0) {
    Curve smooth = curve;
    smooth.y = smoothed(curve.y, weight);
    last = smooth.y.back();
    series.smooth = thinned(smooth, kMostPoints);
  }
  series.label = cat(run, run.empty() ? "" : " · ", curve.name, " ", value_text(last));
  if (curve.validation) {
    const double best = *std::min_element(curve.y.begin(), curve.y.end());
    if (best < last) series.label += cat(" (lowest ", value_text(best), ")");
  }
  return series;
}

std::vector<Series> make_all_series(const ChartPanel& panel, const ChartOptions& options) {
  std::vector<Series> all;
  for (size_t run = 0; run < panel.runs.size(); ++run) {
    int shape = 0;
    for (const Curve& curve : panel.runs[run].curves) {
      if (curve.y.empty()) continue;
      const bool several = panel.runs.size() > 1;
      const double weight =
          is_noisy(panel.key) ? options.smoothing.value_or(automatic_smoothing(curve.y.size())) : 0;
      Series series = make_series(curve, several ? panel.runs[run].name : "", weight);
      series.colour = kColours[(several ? run : all.size()) % kColours.size()];
      if (curve.validation) series.shape = shape++;
      all.push_back(std::move(series));
    }
  }
  return all;
}

// Draws one panel into its box.
class PanelPainter {
 public:
  PanelPainter(Svg& svg, const ChartPanel& panel, const ChartOptions& options, const Box& box)
      : svg_(&svg),
        panel_(&panel),
        options_(&options),
        box_(box),
        series_(make_all_series(panel, options)) {}

  void paint() {
    const double legend_bottom = paint_head();
    make_axes();
    area_.y = legend_bottom + 6;
    area_.height = box_.y + box_.height - 44 - area_.y;
    double widest = 0;
    for (const std::string& label : y_.labels)
      widest = std::max(widest, text_width(label, kTextSize));
    area_.x = box_.x + widest + 12;
    area_.width = box_.x + box_.width - area_.x - 10;
    paint_axes();
    svg_->begin_clip(area_.x - 5, area_.y - 1, area_.width + 10, area_.height + 2);
    for (const Series& series : series_) paint_raw(series);
    for (const Series& series : series_) paint_main(series);
    svg_->end_clip();
    if (series_.empty()) {
      svg_->text(area_.x + area_.width / 2, area_.y + area_.height / 2,
                 cat("no values of ", panel_->key, " in the log"),
                 {.size = 14, .colour = "#6b7280", .anchor = "middle"});
    }
  }

 private:
  // Name and legend; returns where they end.
  double paint_head() {
    svg_->text(box_.x, box_.y + 14, with_spaces(panel_->key),
               {.size = 14, .colour = "#111827", .bold = true});
    double x = box_.x, y = box_.y + 22 + kLegendRow / 2;
    for (const Series& series : series_) {
      const double width = kLegendSample + 6 + text_width(series.label, kTextSize) + 22;
      if (x > box_.x && x + width > box_.x + box_.width) {
        x = box_.x;
        y += kLegendRow;
      }
      svg_->line(x, y, x + kLegendSample, y, main_stroke(series));
      if (series.shape >= 0) svg_->marker(x + kLegendSample / 2, y, series.shape, 4, series.colour);
      svg_->text(x + kLegendSample + 6, y + 4, series.label, {.size = kTextSize});
      x += width;
    }
    return series_.empty() ? box_.y + 22 : y + kLegendRow / 2;
  }

  void make_axes() {
    std::vector<double> xs, ys;
    for (const Series& series : series_) {
      xs.insert(xs.end(), series.raw.x.begin(), series.raw.x.end());
      ys.insert(ys.end(), series.raw.y.begin(), series.raw.y.end());
    }
    if (options_->y_min) {
      std::erase_if(ys, [&](double y) { return y < *options_->y_min; });
      ys.push_back(*options_->y_min);
    }
    if (options_->y_max) {
      std::erase_if(ys, [&](double y) { return y > *options_->y_max; });
      ys.push_back(*options_->y_max);
    }
    const bool y_given = options_->y_min || options_->y_max;
    if (!options_->log_x && !xs.empty()) xs.push_back(start_of_x(xs));
    x_ = make_axis(std::move(xs), options_->log_x, /*tight=*/true,
                   std::max(3, static_cast<int>(box_.width / 110)));
    y_ = make_axis(std::move(ys), options_->log_y, /*tight=*/y_given,
                   std::max(3, static_cast<int>(box_.height / 60)));
  }

  // 0 if the data begin near it.
  static double start_of_x(const std::vector<double>& xs) {
    const auto [low, high] = std::minmax_element(xs.begin(), xs.end());
    return *low > 0 && *low < 0.1 * *high ? 0 : *low;
  }

  void paint_axes() {
    const double bottom = area_.y + area_.height, right = area_.x + area_.width;
    for (size_t i = 0; i < y_.ticks.size(); ++i) {
      const double y = place_y(y_.ticks[i]);
      svg_->line(area_.x, y, right, y, {.colour = kGridColour});
      svg_->text(area_.x - 6, y + 4, y_.labels[i], {.size = kTextSize, .anchor = "end"});
    }
    double free_from = 0;
    for (size_t i = 0; i < x_.ticks.size(); ++i) {
      const double x = place_x(x_.ticks[i]);
      svg_->line(x, area_.y, x, bottom, {.colour = kGridColour});
      const double half = text_width(x_.labels[i], kTextSize) / 2;
      if (i > 0 && x - half < free_from) continue;  // it would touch its neighbour
      svg_->text(x, bottom + 17, x_.labels[i], {.size = kTextSize, .anchor = "middle"});
      free_from = x + half + 8;
    }
    svg_->rectangle(area_.x, area_.y, area_.width, area_.height, "none", kFrameColour);
    svg_->text(area_.x + area_.width / 2, bottom + 36, options_->x,
               {.size = kTextSize, .anchor = "middle"});
  }

  // Pale, where a smoothed curve is drawn over it.
  void paint_raw(const Series& series) {
    if (series.smooth.x.empty()) return;
    svg_->polyline(points_of(series.raw), {.colour = series.colour, .width = 1, .opacity = 0.25});
  }

  void paint_main(const Series& series) {
    const SvgPoints points = points_of(series.smooth.x.empty() ? series.raw : series.smooth);
    svg_->polyline(points, main_stroke(series));
    const bool alone = points.size() == 1;
    if (series.shape < 0 && !alone) return;
    const double radius = points.size() > 60 ? 2.5 : 4;
    for (const auto& [x, y] : points) {
      svg_->marker(x, y, std::max(0, series.shape), radius, series.colour);
    }
  }

  static Stroke main_stroke(const Series& series) {
    return {.colour = series.colour, .width = 1.8, .dashes = series.shape >= 0 ? "5 3" : ""};
  }

  SvgPoints points_of(const Curve& curve) const {
    SvgPoints points;
    for (size_t i = 0; i < curve.x.size(); ++i) {
      const bool there = (!x_.logarithmic || curve.x[i] > 0) && (!y_.logarithmic || curve.y[i] > 0);
      if (there) points.emplace_back(place_x(curve.x[i]), place_y(curve.y[i]));
    }
    return points;
  }

  double place_x(double x) const { return area_.x + area_.width * x_.place(x); }
  double place_y(double y) const { return area_.y + area_.height * (1 - y_.place(y)); }

  Svg* svg_;
  const ChartPanel* panel_;
  const ChartOptions* options_;
  Box box_, area_;
  std::vector<Series> series_;
  Axis x_, y_;
};

}  // namespace

std::string draw_chart(const std::vector<ChartPanel>& panels, const ChartOptions& options) {
  Svg svg(options.width, options.height, options.title);
  double top = kMargin;
  if (!options.title.empty()) {
    svg.text(options.width / 2, top + 14, options.title,
             {.size = 17, .colour = "#111827", .anchor = "middle", .bold = true});
    top += 30;
  }
  const size_t columns = panels.size() > 1 ? 2 : 1;
  const size_t rows = (panels.size() + columns - 1) / columns;
  const double gap = 24;
  const double width = (options.width - 2 * kMargin - gap * static_cast<double>(columns - 1)) /
                       static_cast<double>(columns);
  const double height = (options.height - top - gap * static_cast<double>(rows - 1)) /
                        static_cast<double>(std::max<size_t>(1, rows));
  for (size_t i = 0; i < panels.size(); ++i) {
    const size_t row = i / columns, column = i % columns;
    const Box box{kMargin + static_cast<double>(column) * (width + gap),
                  top + static_cast<double>(row) * (height + gap), width, height};
    PanelPainter(svg, panels[i], options, box).paint();
  }
  return svg.finish();
}

}  // namespace llama2zh
