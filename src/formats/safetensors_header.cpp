// The header of a safetensors file: https://github.com/huggingface/safetensors (README, "Format").
//   u64 N, little-endian | N bytes of JSON, '{' first, padded with spaces | data
//   {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {string: string}}
// Offsets count from the end of the header; the data has neither holes nor overlaps and ends with
// the file.
#include "formats/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "formats/dtype.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr const char* kMetadataKey = "__metadata__";
constexpr const char* kDownloadAgain = "copy or download the file again";
constexpr uint64_t kHeaderAlignment = 64;

struct Range {
  uint64_t begin, end;
  const std::string* name;
};

uint64_t header_length(std::string_view bytes, uint64_t file_size, std::string_view where) {
  if (bytes.starts_with("version https://git-lfs")) {
    fail_format(where, "this is a Git LFS pointer, not the weights", "run `git lfs pull`");
  }
  if (file_size < 8 || bytes.size() < 8) {
    fail_format(where,
                cat("the file is truncated: it has ", file_size,
                    " bytes, at least 10 were expected, ", 10 - file_size, " bytes are missing"),
                kDownloadAgain);
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  if (length < 2 || length > kMaxSafetensorsHeader) {
    fail_format(where, cat("not a safetensors file: a header of ", length,
                           " bytes is claimed, 2 to ", kMaxSafetensorsHeader, " were expected"));
  }
  if (length > file_size - 8) {
    fail_format(where,
                cat("the file is truncated: its header ends at byte ", 8 + length,
                    ", the file has ", file_size, ": ", 8 + length - file_size,
                    " bytes of the header and all tensors are missing"),
                kDownloadAgain);
  }
  return length;
}

std::string entry_where(std::string_view where, const std::string& name) {
  return cat(where, ": tensor ", name);
}

int64_t parse_dim(const json& value, std::string_view where, const std::string& name) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    fail_format(entry_where(where, name),
                cat("the shape holds ", value.dump(), ", a whole number from 0 to 2^63 - 1 was",
                    " expected"));
  }
  return static_cast<int64_t>(value.get<uint64_t>());
}

TensorInfo parse_info(const std::string& name, const json& value, std::string_view where) {
  const auto at = entry_where(where, name);
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    fail_format(at, "expected an object with dtype, shape and data_offsets");
  }
  const auto& dtype = value["dtype"];
  const DtypeNames* names =
      dtype.is_string() ? dtype_by_safetensors(dtype.get_ref<const std::string&>()) : nullptr;
  if (names == nullptr) {
    fail_format(at,
                cat("element type ", dtype.dump(), " is not one of ", safetensors_dtype_list()));
  }
  const auto& shape = value["shape"];
  if (!shape.is_array() || shape.size() > kMaxDims) {
    fail_format(at, cat("the shape must be a list of at most ", kMaxDims, " numbers"));
  }
  TensorInfo info{name, names->dtype, {}};
  for (const auto& dim : shape) info.shape.push_back(parse_dim(dim, where, name));
  return info;
}

Range parse_range(const std::string& name, const json& value, const TensorInfo& info,
                  std::string_view where) {
  const auto at = entry_where(where, name);
  const auto& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    fail_format(at, "data_offsets must be two whole numbers, begin and end");
  }
  const Range range{offsets[0].get<uint64_t>(), offsets[1].get<uint64_t>(), nullptr};
  if (range.begin > range.end) {
    fail_format(at, cat("data_offsets begin (", range.begin, ") lies after end (", range.end, ")"));
  }
  const auto bytes = dense_bytes(info.shape, info.dtype);
  if (!bytes) {
    fail_format(at, cat("shape ", shape_text(info.shape), " is too large: its size overflows"));
  }
  if (*bytes != range.end - range.begin) {
    fail_format(
        at, cat("shape ", shape_text(info.shape), " of type ", dtype_names(info.dtype)->safetensors,
                " needs ", *bytes, " bytes, data_offsets [", range.begin, ", ", range.end,
                "] hold ", range.end - range.begin));
  }
  return range;
}

std::map<std::string, std::string> parse_metadata(const json& value, std::string_view where) {
  if (!value.is_object()) fail_format(where, "__metadata__ must be an object of strings");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      fail_format(where,
                  cat("__metadata__ key ", key, " must be a string, not ", text.type_name()));
    }
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

// Sorted by begin, the ranges must lie end to end from 0 to the end of the file.
void check_layout(std::vector<Range> ranges, uint64_t data_size, std::string_view where) {
  const Range* furthest = nullptr;
  for (const auto& range : ranges) {
    if (furthest == nullptr || range.end > furthest->end) furthest = &range;
  }
  const uint64_t end = furthest == nullptr ? 0 : furthest->end;
  if (end > data_size) {
    fail_format(
        where,
        cat("the file is truncated: ", end - data_size, " bytes are missing (tensor ",
            *furthest->name, " ends at byte ", end, " of the data, which has ", data_size, ")"),
        kDownloadAgain);
  }
  if (end < data_size) {
    fail_format(where, cat(data_size - end, " bytes follow the last tensor, none were expected"));
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t position = 0;
  for (const auto& range : ranges) {
    if (range.begin != position) {
      fail_format(entry_where(where, *range.name),
                  cat("its bytes start at ", range.begin, " of the data, expected ", position,
                      range.begin < position ? ": tensors overlap" : ": there is a hole"));
    }
    position = range.end;
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view bytes, uint64_t file_size,
                                           std::string_view where) {
  const uint64_t length = header_length(bytes, file_size, where);
  const auto text = bytes.substr(8, length);
  if (text.front() != '{') {
    fail_format(where, "not a safetensors file: its header does not start with '{'");
  }
  const json root = parse_json(text, cat(where, " (header)"));
  SafetensorsHeader header;
  header.entries.reserve(root.size());
  std::vector<Range> ranges;
  ranges.reserve(root.size());
  for (const auto& [name, value] : root.items()) {
    if (name == kMetadataKey) {
      header.metadata = parse_metadata(value, where);
      continue;
    }
    TensorInfo info = parse_info(name, value, where);
    ranges.push_back(parse_range(name, value, info, where));
    header.entries.push_back({std::move(info), 8 + length + ranges.back().begin});
  }
  for (size_t i = 0; i < ranges.size(); ++i) ranges[i].name = &header.entries[i].info.name;
  check_layout(std::move(ranges), file_size - 8 - length, where);
  std::sort(header.entries.begin(), header.entries.end(),
            [](const auto& a, const auto& b) { return a.info.name < b.info.name; });
  return header;
}

std::string make_safetensors_header(const std::vector<TensorInfo>& infos,
                                    const std::map<std::string, std::string>& metadata,
                                    std::string_view where) {
  ordered_json root = ordered_json::object();
  auto& written = root[kMetadataKey] = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) written[key] = value;
  written["format"] = "pt";  // transformers 4 refuses files that say anything else
  std::string text = root.dump();
  text.pop_back();  // the closing brace: an object lookup per name would be quadratic
  std::map<std::string_view, bool> seen;
  uint64_t position = 0;
  for (const auto& info : infos) {
    const DtypeNames* names = dtype_names(info.dtype);
    const auto bytes = dense_bytes(info.shape, info.dtype);
    if (info.name.empty() || info.name == kMetadataKey || !is_utf8(info.name) ||
        !seen.emplace(info.name, true).second) {
      fail_data(where, cat("tensor name \"", utf8_sanitize(info.name),
                           "\" is empty, reserved, not UTF-8 or given twice"));
    }
    if (names == nullptr || *names->safetensors == '\0' || !bytes) {
      fail_data(entry_where(where, info.name),
                cat("type ", c10::toString(info.dtype), " with shape ", shape_text(info.shape),
                    " can't be stored in safetensors"));
    }
    const ordered_json value = {{"dtype", names->safetensors},
                                {"shape", info.shape},
                                {"data_offsets", {position, position + *bytes}}};
    text += "," + json(info.name).dump() + ":" + value.dump();
    position += *bytes;
  }
  text += '}';
  text.append((kHeaderAlignment - (8 + text.size()) % kHeaderAlignment) % kHeaderAlignment, ' ');
  if (text.size() > kMaxSafetensorsHeader) {
    fail_data(where, cat("the header would have ", text.size(), " bytes, at most ",
                         kMaxSafetensorsHeader, " are allowed"));
  }
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

}  // namespace llama2zh
