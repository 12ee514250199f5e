// llama2zh plot: training and validation curves of runs as SVG or PNG.
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/plot/chart.h"
#include "llama2zh/plot/png.h"

namespace llama2zh {
namespace {

struct PlotOptions {
  std::vector<std::string> runs;
  std::string output;
  std::vector<std::string> keys = {"loss"};
  std::string x = "step";
  std::optional<double> smoothing;
  bool log_x = false;
  bool log_y = false;
  std::optional<double> y_min;
  std::optional<double> y_max;
  std::string title;
  int64_t width = 960;
  int64_t height = 560;
  double scale = 2;
  static auto options() {
    using T = PlotOptions;
    return std::tuple(
        option("runs", &T::runs, "Output folders of runs, finished or not, or their log files.",
               not_empty()),
        option("output", &T::output,
               "File to write, .svg or .png; empty: curves.svg in the run's folder, or here for "
               "several runs."),
        option("keys", &T::keys,
               "Keys of trainer_log.jsonl, a panel each: loss, learning_rate, grad_norm, "
               "tokens_per_second, mfu, perplexity, ... Validation sets' eval_KEY come along.",
               not_empty()),
        option("x", &T::x, "What the x axis counts.", one_of({"step", "epoch", "tokens"})),
        option("smoothing", &T::smoothing,
               "Weight of the past in the exponential average; 0: none; null: by the number of "
               "points.",
               in_half_open(0, 1)),
        option("log_x", &T::log_x, "Logarithmic x axis."),
        option("log_y", &T::log_y, "Logarithmic y axis."),
        option("y_min", &T::y_min, "Lowest value shown."),
        option("y_max", &T::y_max, "Highest value shown."),
        option("title", &T::title, "Above the panels; empty: the run's name."),
        option("width", &T::width, "Of the picture.", between(200, 10000)),
        option("height", &T::height, "Of the picture; several panels share it.",
               between(150, 10000)),
        option("scale", &T::scale, "PNG: pixels a unit of width and height.", between(0.25, 8)));
  }
};

fs::path output_of(const PlotOptions& options) {
  if (options.output.empty()) {
    const fs::path only = options.runs.front();
    const bool inside = options.runs.size() == 1 && fs::is_directory(only);
    return inside ? only / "curves.svg" : fs::path("curves.svg");
  }
  const std::string kind = fs::path(options.output).extension();
  if (kind == ".svg" || kind == ".png") return options.output;
  fail_usage("output", cat("'", options.output, "' is neither .svg nor .png"),
             "name a file with one of these endings");
}

std::vector<ChartPanel> read_panels(const PlotOptions& options) {
  std::vector<ChartPanel> panels;
  bool any = false;
  for (const std::string& key : options.keys) {
    ChartPanel& panel = panels.emplace_back(ChartPanel{key, {}});
    for (const std::string& run : options.runs) {
      panel.runs.push_back(read_run_curves(run, key, options.x));
      any = any || !panel.runs.back().curves.empty();
    }
  }
  if (!any) {
    fail_data(join(options.runs, ", "),
              cat("no line of the log has a value of ", join(options.keys, " or ")),
              "the run has not logged yet, or --keys names none of the log's keys");
  }
  return panels;
}

void print_last_values(const std::vector<ChartPanel>& panels) {
  for (const ChartPanel& panel : panels) {
    for (const RunCurves& run : panel.runs) {
      for (const Curve& curve : run.curves) {
        if (curve.y.empty()) continue;
        std::printf("%s: %s %s %.4g, the last of %zu\n", run.name.c_str(), curve.name.c_str(),
                    panel.key.c_str(), curve.y.back(), curve.y.size());
      }
    }
  }
}

}  // namespace

int run_plot(const std::vector<std::string>& args) {
  PlotOptions options;
  const CommandSpec spec{
      .verb = "plot",
      .summary = "Draws training and validation curves of runs, finished or running.",
      .examples = {"llama2zh plot out/pretrain",
                   "llama2zh plot out/a out/b --output both.png --keys loss,learning_rate",
                   "llama2zh plot out/pretrain --x tokens --log-y --smoothing 0.9"},
      .positional = {"runs"},
      .required = {"runs"}};
  const OptionTable table = bind_options(options);
  if (parse_command_line(spec, table, args).help) return 0;

  const fs::path output = output_of(options);
  const std::vector<ChartPanel> panels = read_panels(options);
  ChartOptions chart;
  chart.title = options.title;
  if (chart.title.empty() && options.runs.size() == 1) chart.title = panels[0].runs[0].name;
  chart.x = options.x;
  chart.log_x = options.log_x;
  chart.log_y = options.log_y;
  chart.smoothing = options.smoothing;
  chart.y_min = options.y_min;
  chart.y_max = options.y_max;
  chart.width = static_cast<double>(options.width);
  chart.height = static_cast<double>(options.height);
  std::string picture = draw_chart(panels, chart);
  if (output.extension() == ".png") {
    picture = svg_to_png(picture, chart.width, chart.height, options.scale);
  }
  write_file_atomic(output, picture);
  print_last_values(panels);
  std::printf("%s\n", output.c_str());
  return 0;
}

}  // namespace llama2zh
