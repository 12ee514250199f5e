#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace llama2zh {

std::string sha256_hex(std::string_view bytes);
std::string sha256_file(const std::filesystem::path& path);  // streams; kIo if unreadable
uint64_t xxh64(std::string_view bytes, uint64_t seed = 0);
std::string xxh64_file(const std::filesystem::path& path);  // 16 hex digits; streams
uint32_t crc32c(std::string_view bytes);  // Castagnoli's polynomial, as TensorBoard's records

}  // namespace llama2zh
