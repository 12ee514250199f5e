#pragma once

#include <optional>
#include <string>
#include <vector>

#include "llama2zh/plot/run_curves.h"

namespace llama2zh {

// One quantity of one or several runs in one coordinate system.
struct ChartPanel {
  std::string key;  // "loss"
  std::vector<RunCurves> runs;
};

struct ChartOptions {
  std::string title;
  std::string x = "step";  // names the axis
  bool log_x = false, log_y = false;
  std::optional<double> smoothing;  // weight in [0, 1); none: automatic_smoothing()
  std::optional<double> y_min, y_max;
  double width = 960, height = 560;  // of the picture; several panels share it in two columns
};

// The curves as an SVG document. Training curves are drawn raw (pale) and smoothed, evaluations with
// markers; one run has a colour a curve, several have a colour a run. Each panel's legend gives the
// curves' last values. A panel without any point says so.
std::string draw_chart(const std::vector<ChartPanel>& panels, const ChartOptions& options);

}  // namespace llama2zh
