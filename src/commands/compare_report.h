#pragma once

#include <string>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Of the results of `evaluate compare` (results.json): a Markdown page, an HTML page with plots that
// needs nothing else, and the same tables for a terminal. Pages hold model output: it is escaped.
std::string compare_markdown(const ordered_json& results);
std::string compare_html(const ordered_json& results);

}  // namespace llama2zh
