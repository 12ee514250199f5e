#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "llama2zh/base/file.h"

namespace llama2zh {

// The directory of a zip archive whose entries are stored, not compressed: all that torch.save
// writes. kFormat at construction for compressed, encrypted, overlapping or repeated entries, and
// for any range that leaves the file.
class ZipReader {
 public:
  struct Entry {
    uint64_t offset = 0;  // of the payload in the file
    uint64_t size = 0;
  };

  explicit ZipReader(std::shared_ptr<const MappedFile> file);

  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  const Entry* find(std::string_view name) const;  // null if there is none
  std::string_view bytes(const Entry& entry) const {
    return file_->bytes().substr(entry.offset, entry.size);
  }
  const std::shared_ptr<const MappedFile>& file() const { return file_; }

 private:
  struct Directory {
    uint64_t offset = 0, size = 0, entries = 0;
  };
  Directory find_directory() const;
  Directory read_zip64_end(uint64_t end_record, Directory directory) const;
  void read_directory(const Directory& directory);
  size_t read_entry(std::string_view records, uint64_t directory_offset);
  uint64_t payload_offset(const std::string& name, uint64_t local, uint64_t limit) const;
  void check_overlap() const;
  [[noreturn]] void fail(std::string_view problem) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace llama2zh
