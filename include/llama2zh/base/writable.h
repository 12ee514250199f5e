#pragma once

#include <filesystem>

namespace llama2zh {

// kIo unless `folder`, or the nearest folder above it that exists, lets a folder be made in it: tries,
// since permissions alone do not tell (/proc, read-only mounts). Leaves nothing.
void check_writable(const std::filesystem::path& folder);

}  // namespace llama2zh
