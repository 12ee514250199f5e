#pragma once

#include <filesystem>

#include "llama2zh/base/json.h"

namespace llama2zh {

// The header of a .gguf of any architecture: version, metadata (long arrays only by type and count) and
// what its tensors are; each of them with `list`. kFormat for a file that GgufFile::open() refuses.
ordered_json inspect_gguf_header(const std::filesystem::path& file, bool list);

}  // namespace llama2zh
