// Metadata values by type. Writers use different widths for one key (u32 or u64, f32 or f64), so
// the getters ask for what a value means, not for how it is stored.
#include <cmath>
#include <limits>

#include "formats/gguf_types.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kMostShown = 60;  // bytes of a text in a message

GgufValue scalar(GgufKind kind, decltype(GgufValue::elements) elements) {
  return {kind, false, std::move(elements)};
}

GgufValue array(GgufKind kind, decltype(GgufValue::elements) elements) {
  return {kind, true, std::move(elements)};
}

std::string shown_text(const std::string& text) {
  if (text.size() <= kMostShown) return '"' + utf8_sanitize(text) + '"';
  return '"' + utf8_sanitize(text.substr(0, kMostShown)) + "...\"";
}

// Integers as int64; nullopt for other kinds and what int64 can't hold.
std::optional<int64_t> integer_at(const GgufValue& value, size_t index) {
  if (value.kind == GgufKind::kBool) return std::nullopt;
  if (const auto* list = std::get_if<std::vector<int64_t>>(&value.elements)) return (*list)[index];
  if (const auto* list = std::get_if<std::vector<uint64_t>>(&value.elements)) {
    if ((*list)[index] > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return {};
    return static_cast<int64_t>((*list)[index]);
  }
  return std::nullopt;
}

}  // namespace

GgufValue GgufValue::uint32(uint32_t value) {
  return scalar(GgufKind::kUint32, std::vector<uint64_t>{value});
}
GgufValue GgufValue::float32(float value) {
  return scalar(GgufKind::kFloat32, std::vector<double>{static_cast<double>(value)});
}
GgufValue GgufValue::boolean(bool value) {
  return scalar(GgufKind::kBool, std::vector<uint64_t>{value ? uint64_t{1} : uint64_t{0}});
}
GgufValue GgufValue::text(std::string value) {
  return scalar(GgufKind::kString, std::vector<std::string>{std::move(value)});
}
GgufValue GgufValue::texts(std::vector<std::string> values) {
  return array(GgufKind::kString, std::move(values));
}
GgufValue GgufValue::int32s(const std::vector<int32_t>& values) {
  return array(GgufKind::kInt32, std::vector<int64_t>(values.begin(), values.end()));
}
GgufValue GgufValue::float32s(const std::vector<float>& values) {
  return array(GgufKind::kFloat32, std::vector<double>(values.begin(), values.end()));
}

size_t GgufValue::size() const {
  return std::visit([](const auto& list) { return list.size(); }, elements);
}

std::string GgufValue::describe() const {
  if (is_array) return cat("an array of ", size(), " ", gguf_kind_name(kind));
  std::string shown;
  if (kind == GgufKind::kString) {
    shown = shown_text(std::get<std::vector<std::string>>(elements).front());
  } else if (kind == GgufKind::kBool) {
    shown = std::get<std::vector<uint64_t>>(elements).front() != 0 ? "true" : "false";
  } else if (const auto* floats = std::get_if<std::vector<double>>(&elements)) {
    shown = cat(floats->front());
  } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&elements)) {
    shown = cat(ints->front());
  } else {
    shown = cat(std::get<std::vector<uint64_t>>(elements).front());
  }
  return cat(shown, " (", gguf_kind_name(kind), ")");
}

void GgufMetadata::set(std::string key, GgufValue value) {
  for (auto& entry : entries_) {
    if (entry.first == key) {
      entry.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(std::move(key), std::move(value));
}

void GgufMetadata::append(std::string key, GgufValue value) {
  entries_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  for (const auto& entry : entries_) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

void GgufMetadata::fail(std::string_view key, std::string_view problem,
                        std::string_view remedy) const {
  const GgufValue* value = find(key);
  fail_format(where_,
              cat("metadata key ", key, value == nullptr ? "" : " is ",
                  value == nullptr ? "" : value->describe(), ": ", problem),
              remedy);
}

const GgufValue& GgufMetadata::require(std::string_view key) const {
  if (const GgufValue* value = find(key)) return *value;
  fail(key, "it is missing", "the file is not complete: convert or download it again");
}

int64_t GgufMetadata::integer(std::string_view key, int64_t low, int64_t high) const {
  const GgufValue& value = require(key);
  const auto number = value.is_array ? std::nullopt : integer_at(value, 0);
  if (!number || *number < low || *number > high) {
    fail(key, cat("expected a whole number from ", low, " to ", high));
  }
  return *number;
}

int64_t GgufMetadata::integer(std::string_view key, int64_t low, int64_t high,
                              int64_t absent) const {
  return find(key) == nullptr ? absent : integer(key, low, high);
}

double GgufMetadata::number(std::string_view key) const {
  const GgufValue& value = require(key);
  const auto* list = std::get_if<std::vector<double>>(&value.elements);
  if (value.is_array || list == nullptr || !std::isfinite(list->front())) {
    fail(key, "expected a finite number of kind float32 or float64");
  }
  return list->front();
}

double GgufMetadata::number(std::string_view key, double absent) const {
  return find(key) == nullptr ? absent : number(key);
}

bool GgufMetadata::flag(std::string_view key, bool absent) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return absent;
  if (value->is_array || value->kind != GgufKind::kBool) fail(key, "expected true or false");
  return std::get<std::vector<uint64_t>>(value->elements).front() != 0;
}

std::string GgufMetadata::text(std::string_view key) const {
  const GgufValue& value = require(key);
  if (value.is_array || value.kind != GgufKind::kString) fail(key, "expected a text");
  const std::string& text = std::get<std::vector<std::string>>(value.elements).front();
  if (!is_utf8(text)) fail(key, "it is not UTF-8 text");
  return text;
}

std::string GgufMetadata::text(std::string_view key, const std::string& absent) const {
  return find(key) == nullptr ? absent : text(key);
}

std::vector<std::string> GgufMetadata::texts(std::string_view key) const {
  const GgufValue& value = require(key);
  if (!value.is_array || value.kind != GgufKind::kString) fail(key, "expected an array of texts");
  const auto& list = std::get<std::vector<std::string>>(value.elements);
  for (size_t i = 0; i < list.size(); ++i) {
    if (!is_utf8(list[i])) fail(key, cat("element ", i, " is not UTF-8 text"));
  }
  return list;
}

std::vector<int64_t> GgufMetadata::integers(std::string_view key, int64_t low, int64_t high) const {
  const GgufValue& value = require(key);
  std::vector<int64_t> result;
  for (size_t i = 0; value.is_array && i < value.size(); ++i) {
    const auto number = integer_at(value, i);
    if (!number || *number < low || *number > high) {
      fail(key, cat("element ", i, number ? cat(" is ", *number) : std::string(),
                    ", expected whole numbers from ", low, " to ", high));
    }
    result.push_back(*number);
  }
  if (!value.is_array) fail(key, "expected an array of whole numbers");
  return result;
}

std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  const GgufValue& value = require(key);
  const auto* list = std::get_if<std::vector<double>>(&value.elements);
  if (!value.is_array || list == nullptr) fail(key, "expected an array of float32 or float64");
  for (size_t i = 0; i < list->size(); ++i) {
    if (!std::isfinite((*list)[i])) fail(key, cat("element ", i, " is not finite"));
  }
  return *list;
}

}  // namespace llama2zh
