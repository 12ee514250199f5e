#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Typed reading of a request's JSON object. A field that is absent or null has no value; one of
// another type or outside its range is a 400 that names it. Numbers are numbers: "1" is none, and
// 1.5 is no integer.
class BodyFields {
 public:
  // `path` stands before names in errors: "parameters.".
  explicit BodyFields(const json& object, std::string path = {})
      : object_(&object), path_(std::move(path)) {}
  const std::string& path() const { return path_; }

  std::optional<bool> flag(const char* name) const;
  std::optional<int64_t> integer(const char* name, int64_t low, int64_t high) const;
  std::optional<double> number(const char* name, double low, double high) const;
  std::optional<std::string> text(const char* name) const;
  // A text alone counts as a list of one.
  std::optional<std::vector<std::string>> texts(const char* name, int64_t most) const;
  std::optional<std::vector<int64_t>> integers(const char* name, int64_t most) const;
  const json* any(const char* name) const;  // null where it is absent or null
  [[noreturn]] void refuse(const char* name, const std::string& message) const;

 private:
  [[noreturn]] void refuse_type(const char* name, const json& value, const char* expected) const;
  const json* object_;
  std::string path_;
};

// The body of a POST as a JSON object; 400 for anything else.
json parse_body(std::string_view body);
// What lies at `pointer` ("/response_format/json_schema/schema") of a body that parse_body() took, as
// text, with the keys of objects in the order in which they came. 400 where there are too many keys.
std::string ordered_text(std::string_view body, const std::string& pointer);
// As an error shows a value: cut after some characters.
std::string shown(const json& value);

}  // namespace llama2zh
