#pragma once

#include <cstdint>
#include <filesystem>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Files of one JSON object a line, each with "step", that a run adds to as it goes.

// Drops the lines of steps after `after_step` (a resumed run writes them again) and a torn last
// line; 0 leaves an empty file.
void keep_json_lines(const std::filesystem::path& file, int64_t after_step);
// Adds one; kIo naming the file if it can't be written.
void append_json_line(const std::filesystem::path& file, const ordered_json& line);

}  // namespace llama2zh
