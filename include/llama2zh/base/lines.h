#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace llama2zh {

// Streams the bytes of a plain, .gz (zlib) or .zst (zstd) file, told apart by their first bytes, in
// bounded memory. A truncated or corrupt stream is a kFormat error that names the file.
class ByteSource {
 public:
  static std::unique_ptr<ByteSource> open(const std::filesystem::path& path);
  virtual ~ByteSource() = default;
  virtual size_t read(char* buffer, size_t size) = 0;  // 0 at the end
  // Bytes of the file itself (compressed ones, then) that have been used so far: how far it is.
  virtual uint64_t consumed() const = 0;
};

// Lines of a file without their end (\n or \r\n; a UTF-8 byte order mark at the start is dropped).
// A line longer than `max_line` bytes is a kData error.
class LineReader {
 public:
  explicit LineReader(const std::filesystem::path& path, size_t max_line = size_t{1} << 28);
  bool next(std::string& line);
  int64_t line_number() const { return line_number_; }       // of the last line returned, from 1
  std::string where() const;                                 // "file:line"
  uint64_t consumed() const { return source_->consumed(); }  // bytes of the file used so far

 private:
  std::filesystem::path path_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  size_t position_ = 0;
  size_t max_line_;
  int64_t line_number_ = 0;
  bool ended_ = false;
};

// The whole text of a file, decompressed; kData if it is not UTF-8 (names line and column).
std::string read_text_file(const std::filesystem::path& path,
                           uint64_t max_bytes = uint64_t{1} << 32);

}  // namespace llama2zh
