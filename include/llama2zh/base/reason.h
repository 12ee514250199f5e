#pragma once

#include <string>
#include <string_view>

namespace llama2zh {

// The text of an errno value as it stands inside a sentence: "no such file or directory".
std::string system_reason(int error_number);

// What another library's exception says, without the place in its sources that Gloo puts before it
// and libtorch behind it, and without a stack.
std::string library_reason(std::string_view what);

}  // namespace llama2zh
