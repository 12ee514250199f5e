#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "llama2zh/formats/gguf.h"

namespace llama2zh {

inline constexpr uint32_t kGgufVersion = 3;
inline constexpr uint64_t kGgufDefaultAlignment = 32;
inline constexpr const char* kGgufAlignmentKey = "general.alignment";
inline constexpr size_t kGgufMaxDims = 4;
inline constexpr size_t kGgufMaxTensorName = 63;  // llama.cpp's buffer of 64 holds a NUL
inline constexpr size_t kGgufMaxKey = 65535;

struct GgmlTypeTraits {
  GgmlType type;
  const char* name;
  int64_t block;                        // values
  int64_t bytes;                        // of a block
  std::optional<at::ScalarType> dense;  // the libtorch type with the same bytes
};
// Null for types that are not read here.
const GgmlTypeTraits* ggml_traits(uint32_t type);
const GgmlTypeTraits& ggml_traits(GgmlType type);
// "Q2_K" also for types that are known only by name, else "".
std::string ggml_foreign_type_name(uint32_t type);
std::string ggml_type_list();  // of those that are read, for messages

// Bytes of a tensor; nullopt if a dimension is negative, a row is no multiple of the block or a
// product leaves int64.
std::optional<uint64_t> ggml_bytes(const GgmlTypeTraits& traits, std::span<const int64_t> shape);

// nullopt: no such kind. Strings count their length field only.
std::optional<uint64_t> gguf_kind_bytes(uint32_t kind);
const char* gguf_kind_name(GgufKind kind);

uint64_t align_up(uint64_t value, uint64_t alignment);

// What GgufFile::open() finds in the bytes. `where` is the file.
struct GgufHeader {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // sorted by name
};
GgufHeader parse_gguf_header(std::string_view bytes, const std::string& where);

}  // namespace llama2zh
