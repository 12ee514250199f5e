#pragma once

#include <string>
#include <string_view>

#include "data/row_file.h"

namespace llama2zh {

// The text of one pretraining row; `row` is left without its own. Errors are kData and name file
// and line.
std::string text_of_row(RawRow& row, const std::string& field, std::string_view file);

}  // namespace llama2zh
