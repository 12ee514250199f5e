#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/file.h"

namespace llama2zh {

// Writes a zip archive of stored entries whose payloads start at multiples of 64, as torch.save
// does. Sizes and offsets beyond 32 bits go into zip64 records; `always_zip64` uses those for all.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file, bool always_zip64 = false)
      : file_(file), always_zip64_(always_zip64) {}
  void add(const std::string& name, const void* data, uint64_t size);
  void add(const std::string& name, std::string_view bytes) {
    add(name, bytes.data(), bytes.size());
  }
  void finish();  // the directory; the file is left to be committed

 private:
  struct Entry {
    std::string name;
    uint64_t offset, size;
    uint32_t crc;
  };
  bool wide(uint64_t value) const { return always_zip64_ || value >= 0xffffffff; }

  AtomicFile& file_;
  bool always_zip64_;
  std::vector<Entry> entries_;
};

}  // namespace llama2zh
