#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);
// Offset of the first byte that is not part of valid UTF-8; text.size() if all is valid.
size_t utf8_error_offset(std::string_view text);
// Number of code points of valid UTF-8.
size_t utf8_length(std::string_view text);
std::vector<char32_t> utf8_to_codepoints(std::string_view text);  // invalid bytes -> U+FFFD
void append_utf8(std::string& out, char32_t codepoint);
// Each maximal invalid part replaced by U+FFFD, as Python's errors="replace" does.
std::string utf8_sanitize(std::string_view text);
// Length of the longest prefix that does not end inside a multi-byte character. Invalid bytes count
// as complete.
size_t utf8_complete_prefix(std::string_view text);
// Bytes of the maximal invalid part that `text`, which must start with one, starts with.
size_t utf8_invalid_length(std::string_view text);
// Unicode normalization form C of valid UTF-8.
std::string utf8_nfc(std::string_view text);
bool is_han(char32_t codepoint);
// Columns that `text` takes on a terminal.
size_t display_width(std::string_view text);

}  // namespace llama2zh
