#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Typed, range-checked access to the keys of one JSON object of a config.json. null counts as
// absent. Errors are kFormat and name file and key.
class ConfigReader {
 public:
  ConfigReader(const ordered_json& object, std::string_view where, std::string prefix = "");

  bool empty() const { return object_->empty(); }
  bool has(const char* key) const { return find(key) != nullptr; }
  int64_t integer(const char* key, int64_t absent, int64_t low, int64_t high) const;
  // low < value < high, so that NaN never passes.
  double number(const char* key, double absent, double low, double high) const;
  bool boolean(const char* key, bool absent) const;
  std::string text(const char* key, const std::string& absent) const;
  std::vector<std::string> texts(const char* key) const;  // [] when absent
  std::vector<int64_t> ids(const char* key, std::vector<int64_t> absent) const;
  std::optional<ConfigReader> object(const char* key) const;
  [[noreturn]] void fail(const char* key, const std::string& problem,
                         std::string_view remedy = {}) const;

 private:
  const ordered_json* find(const char* key) const;
  const ordered_json* object_;
  std::string where_, prefix_;
};

}  // namespace llama2zh
