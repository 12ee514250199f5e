#pragma once

#include <string>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Of the results of `evaluate compare` (results.json).
struct ComparePlot {
  std::string title, file, svg;  // file: its name beside report.md
};
std::vector<ComparePlot> compare_plots(const ordered_json& results);
// A Markdown page that links the plots' files (none: for a terminal), and an HTML page that holds them
// and needs nothing else. Pages hold model output: it is escaped.
std::string compare_markdown(const ordered_json& results, const std::vector<ComparePlot>& plots);
std::string compare_html(const ordered_json& results, const std::vector<ComparePlot>& plots);

}  // namespace llama2zh
