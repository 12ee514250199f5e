#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  TensorInfo info;
  uint64_t offset = 0;  // from the start of the file
};
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by name
  std::map<std::string, std::string> metadata;
};

// Reads and checks the header of a file of `file_size` bytes, of which `bytes` (the first ones, the
// header at least) are at hand. kFormat naming `where` unless every tensor's bytes lie in the file,
// exactly as many as type and shape need, without overlap, hole or rest.
SafetensorsHeader parse_safetensors_header(std::string_view bytes, uint64_t file_size,
                                           std::string_view where);

// Length and JSON, padded with spaces so that the data starts at a multiple of 64; the tensors lie
// in the order given. Names must be unique.
std::string make_safetensors_header(const std::vector<TensorInfo>& infos,
                                    const std::map<std::string, std::string>& metadata,
                                    std::string_view where);

}  // namespace llama2zh
