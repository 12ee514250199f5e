#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace llama2zh {

using json = nlohmann::json;
// Keeps the order of keys: for files that people read and for configs that pass through unchanged.
using ordered_json = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 64;  // nlohmann's copy and dump recurse: a deeper text could exhaust the stack
  bool allow_comments = false;  // // and /* */
  bool refuse_duplicate_keys = true;
};

// Lines, from 1, of the keys of nested objects: {"lora": {"rank": 8}} has "lora" and "lora.rank".
// Keys of objects inside arrays are left out.
using KeyLines = std::map<std::string, int>;

// Errors are kFormat and name `where` with line and column (in characters). Text that is not UTF-8
// is an error, and so is a number that a double can't hold; a byte order mark is skipped.
json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits = {});
ordered_json parse_ordered_json(std::string_view text, std::string_view where,
                                const JsonLimits& limits = {}, KeyLines* lines = nullptr);
json read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});
ordered_json read_ordered_json_file(const std::filesystem::path& path,
                                    const JsonLimits& limits = {});
// Two-space indent, UTF-8 left as it is, a final newline; atomic. A text in `value` that is not
// UTF-8 is a kData error.
void write_json_file(const std::filesystem::path& path, const ordered_json& value);

}  // namespace llama2zh
