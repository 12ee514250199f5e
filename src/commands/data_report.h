#pragma once

#include <string>

#include "llama2zh/base/json.h"
#include "llama2zh/data/data_report.h"

namespace llama2zh {

// {"train": {...}, "test": [{...}], "settings": {...}}
ordered_json data_report_json(const DataReport& report, const DataConfig& config,
                              const DataReportOptions& options);
std::string data_report_text(const ordered_json& report);
// What `data check` fails for, a line each; empty: nothing.
std::vector<std::string> data_problems(const DataReport& report);

}  // namespace llama2zh
