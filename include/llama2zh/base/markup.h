#pragma once

#include <string>
#include <string_view>

namespace llama2zh {

// The text for the inside of an element or a quoted attribute of HTML or XML: & < > and " as entities.
std::string escape_markup(std::string_view text);

}  // namespace llama2zh
