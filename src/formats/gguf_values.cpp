// Keys and values of a GGUF header; the layout is in gguf_header.cpp.
#include <unordered_set>

#include "formats/gguf_cursor.h"
#include "formats/gguf_types.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

template <typename Stored, typename Held>
std::vector<Held> read_numbers(GgufCursor& cursor, uint64_t count, std::string_view what) {
  const auto bytes = cursor.take(count * sizeof(Stored), what);
  std::vector<Held> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = static_cast<Held>(value);
  }
  return values;
}

std::vector<int64_t> read_signed_bytes(GgufCursor& cursor, uint64_t count, std::string_view what) {
  auto values = read_numbers<uint8_t, int64_t>(cursor, count, what);
  for (int64_t& value : values) value -= value > INT8_MAX ? 256 : 0;
  return values;
}

std::vector<std::string> read_strings(GgufCursor& cursor, uint64_t count, std::string_view what) {
  std::vector<std::string> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) values.push_back(cursor.string(what));
  return values;
}

std::vector<uint64_t> read_bools(GgufCursor& cursor, uint64_t count, const std::string& what,
                                 const std::string& where) {
  auto values = read_numbers<uint8_t, uint64_t>(cursor, count, what);
  for (const uint64_t value : values) {
    if (value > 1)
      fail_format(where, cat(what, " is ", value, ", a boolean is 0 or 1"), kGgufFetchAgain);
  }
  return values;
}

// The elements must be known to fit into the file.
void read_elements(GgufCursor& cursor, uint64_t count, const std::string& what,
                   const std::string& where, GgufValue& value) {
  switch (value.kind) {
    case GgufKind::kUint8:
      value.elements = read_numbers<uint8_t, uint64_t>(cursor, count, what);
      break;
    case GgufKind::kInt8:
      value.elements = read_signed_bytes(cursor, count, what);
      break;
    case GgufKind::kUint16:
      value.elements = read_numbers<uint16_t, uint64_t>(cursor, count, what);
      break;
    case GgufKind::kInt16:
      value.elements = read_numbers<int16_t, int64_t>(cursor, count, what);
      break;
    case GgufKind::kUint32:
      value.elements = read_numbers<uint32_t, uint64_t>(cursor, count, what);
      break;
    case GgufKind::kInt32:
      value.elements = read_numbers<int32_t, int64_t>(cursor, count, what);
      break;
    case GgufKind::kFloat32:
      value.elements = read_numbers<float, double>(cursor, count, what);
      break;
    case GgufKind::kBool:
      value.elements = read_bools(cursor, count, what, where);
      break;
    case GgufKind::kUint64:
      value.elements = read_numbers<uint64_t, uint64_t>(cursor, count, what);
      break;
    case GgufKind::kInt64:
      value.elements = read_numbers<int64_t, int64_t>(cursor, count, what);
      break;
    case GgufKind::kFloat64:
      value.elements = read_numbers<double, double>(cursor, count, what);
      break;
    case GgufKind::kString:
      value.elements = read_strings(cursor, count, what);
      break;
    case GgufKind::kArray:
      break;
  }
}

GgufValue read_value(GgufCursor& cursor, const std::string& key, const std::string& where) {
  const std::string what = "the value of key " + utf8_sanitize(key);
  GgufValue value;
  auto kind = cursor.number<uint32_t>(what);
  value.is_array = kind == static_cast<uint32_t>(GgufKind::kArray);
  if (value.is_array) kind = cursor.number<uint32_t>(what);
  const auto size = gguf_kind_bytes(kind);
  if (!size) {
    fail_format(where, cat(what, value.is_array ? " has elements" : " is", " of kind ", kind,
                           ", expected 0 to 8 or 10 to 12",
                           value.is_array ? " (arrays of arrays are not read)" : " or 9 (array)"));
  }
  value.kind = static_cast<GgufKind>(kind);
  const uint64_t count =
      value.is_array ? cursor.count(cursor.number<uint64_t>(what), *size, "elements of " + what)
                     : 1;
  read_elements(cursor, count, what, where, value);
  return value;
}

}  // namespace

void read_gguf_metadata(GgufCursor& cursor, uint64_t count, const std::string& where,
                        GgufMetadata& metadata) {
  std::unordered_set<std::string> seen;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key = cursor.string(cat("metadata key ", i));
    if (key.empty() || key.size() > kGgufMaxKey || !is_utf8(key)) {
      fail_format(where, cat("metadata key ", i, " is empty, longer than ", kGgufMaxKey,
                             " bytes or not UTF-8"));
    }
    if (!seen.insert(key).second)
      fail_format(where, cat("metadata key ", key, " stands there twice"));
    metadata.append(key, read_value(cursor, key, where));
  }
}

}  // namespace llama2zh
