// Reading config.json: every value is checked for type and range before it is used as a size.
#include "config_reader.h"

#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

ConfigReader::ConfigReader(const ordered_json& object, std::string_view where, std::string prefix)
    : object_(&object), where_(where), prefix_(std::move(prefix)) {
  if (!object.is_object()) {
    fail_format(where_, cat(prefix_.empty() ? "the file" : prefix_, " should be a JSON object"));
  }
}

const ordered_json* ConfigReader::find(const char* key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::fail(const char* key, const std::string& problem,
                        std::string_view remedy) const {
  const ordered_json* value = find(key);
  fail_format(where_,
              cat(prefix_, key, value == nullptr ? "" : cat(" is ", value->dump()), ": ", problem),
              remedy);
}

int64_t ConfigReader::integer(const char* key, int64_t absent, int64_t low, int64_t high) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return absent;
  const std::string expected = cat("expected an integer from ", low, " to ", high);
  if (!value->is_number_integer()) fail(key, expected);
  const bool too_large =
      value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (too_large || value->get<int64_t>() < low || value->get<int64_t>() > high) fail(key, expected);
  return value->get<int64_t>();
}

double ConfigReader::number(const char* key, double absent, double low, double high) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return absent;
  const bool good = value->is_number() && value->get<double>() > low && value->get<double>() < high;
  if (!good) fail(key, cat("expected a number above ", low, " and below ", high));
  return value->get<double>();
}

bool ConfigReader::boolean(const char* key, bool absent) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) fail(key, "expected true or false");
  return value->get<bool>();
}

std::string ConfigReader::text(const char* key, const std::string& absent) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_string()) fail(key, "expected a text");
  return value->get<std::string>();
}

std::vector<std::string> ConfigReader::texts(const char* key) const {
  const ordered_json* value = find(key);
  std::vector<std::string> result;
  if (value == nullptr) return result;
  if (!value->is_array()) fail(key, "expected a list of texts");
  for (const auto& item : *value) {
    if (!item.is_string()) fail(key, "expected a list of texts");
    result.push_back(item.get<std::string>());
  }
  return result;
}

// A token id, a list of them, or -1 for none, as files in circulation hold them.
std::vector<int64_t> ConfigReader::ids(const char* key, std::vector<int64_t> absent) const {
  const auto found = object_->find(key);
  if (found == object_->end()) return absent;
  if (found->is_null()) return {};
  std::vector<int64_t> result;
  const ordered_json list = found->is_array() ? *found : ordered_json::array({*found});
  for (const auto& item : list) {
    if (!item.is_number_integer()) fail(key, "expected a token id or a list of them");
    const int64_t id = item.get<int64_t>();
    if (id >= 0) result.push_back(id);
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(const char* key) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return ConfigReader(*value, where_, cat(prefix_, key, "."));
}

}  // namespace llama2zh
