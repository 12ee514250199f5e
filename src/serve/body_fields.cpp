// Typed reading of request bodies.
#include "serve/body_fields.h"

#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "serve/api_error.h"

namespace llama2zh {

json parse_body(std::string_view body) {
  try {
    json out = parse_json(body, "request body");
    if (!out.is_object())
      refuse_field("", cat("the request body is ", shown(out), ", expected a JSON object"));
    return out;
  } catch (const Error& error) {
    refuse_field("", error.what());
  }
}

namespace {

// Work of putting an object's keys into a list without an index: the square of their number.
double ordering_work(const json& value) {
  double work = value.is_object() ? static_cast<double>(value.size() * value.size()) : 0;
  if (value.is_structured())
    for (const json& inner : value) work += ordering_work(inner);
  return work;
}

}  // namespace

std::string ordered_text(std::string_view body, const std::string& pointer) {
  constexpr double kMostWork = 1e8;
  if (ordering_work(json::parse(body)) > kMostWork)
    refuse_field("", "the request has objects with too many keys beside a schema");
  const ordered_json ordered = parse_ordered_json(body, "request body");
  const ordered_json& found = ordered.at(ordered_json::json_pointer(pointer));
  return found.is_string() ? found.get<std::string>() : found.dump();
}

std::string shown(const json& value) {
  constexpr size_t kMost = 80;
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kMost)
    text = text.substr(0, utf8_complete_prefix(text.substr(0, kMost))) + "...";
  return text;
}

void BodyFields::refuse(const char* name, const std::string& message) const {
  refuse_field(path_ + name, cat(path_, name, " ", message));
}

void BodyFields::refuse_type(const char* name, const json& value, const char* expected) const {
  refuse(name, cat("is ", shown(value), ", expected ", expected));
}

const json* BodyFields::any(const char* name) const {
  const auto it = object_->find(name);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> BodyFields::flag(const char* name) const {
  const json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse_type(name, *value, "true or false");
  return value->get<bool>();
}

std::optional<int64_t> BodyFields::integer(const char* name, int64_t low, int64_t high) const {
  const json* value = any(name);
  if (value == nullptr) return std::nullopt;
  const std::string expected =
      low == INT64_MIN ? "a 64-bit integer" : cat("an integer from ", low, " to ", high);
  if (value->is_number_float()) {  // 8.0 is what some languages write for 8
    const double number = value->get<double>();
    if (number != std::floor(number) || std::abs(number) > 9007199254740992.0)
      refuse_type(name, *value, expected.c_str());
    const auto whole = static_cast<int64_t>(number);
    if (whole < low || whole > high) refuse_type(name, *value, expected.c_str());
    return whole;
  }
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX);
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high)
    refuse_type(name, *value, expected.c_str());
  return value->get<int64_t>();
}

std::optional<double> BodyFields::number(const char* name, double low, double high) const {
  const json* value = any(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= low && number <= high))
    refuse_type(name, *value, cat("a number from ", low, " to ", high).c_str());
  return number;
}

std::optional<std::string> BodyFields::text(const char* name) const {
  const json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse_type(name, *value, "a text");
  return value->get<std::string>();
}

std::optional<std::vector<std::string>> BodyFields::texts(const char* name, int64_t most) const {
  const json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::vector{value->get<std::string>()};
  if (!value->is_array()) refuse_type(name, *value, "a text or a list of texts");
  if (static_cast<int64_t>(value->size()) > most)
    refuse(name, cat("has ", value->size(), " entries, expected at most ", most));
  std::vector<std::string> out;
  for (const json& entry : *value) {
    if (!entry.is_string()) refuse_type(name, *value, "a text or a list of texts");
    out.push_back(entry.get<std::string>());
  }
  return out;
}

std::optional<std::vector<int64_t>> BodyFields::integers(const char* name, int64_t most) const {
  const json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) refuse_type(name, *value, "a list of integers");
  if (static_cast<int64_t>(value->size()) > most)
    refuse(name, cat("has ", value->size(), " entries, expected at most ", most));
  std::vector<int64_t> out;
  for (const json& entry : *value) {
    const bool fits = entry.is_number_integer() &&
                      !(entry.is_number_unsigned() && entry.get<uint64_t>() > INT64_MAX);
    if (!fits) refuse_type(name, *value, "a list of integers");
    out.push_back(entry.get<int64_t>());
  }
  return out;
}

}  // namespace llama2zh
