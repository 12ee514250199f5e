// Zip directories: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central
// directory), 4.3.14-16 (end records, zip64), 4.5.3 (zip64 extra field). The file is read from its
// end: end record -> central directory -> one local header per entry. Numbers are little-endian and
// none of them is believed before it is compared with the file's size.
#include "formats/zip_reader.h"

#include <algorithm>
#include <vector>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kZip64LocatorSignature = 0x07064b50;
constexpr uint32_t kZip64EndSignature = 0x06064b50;
constexpr size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kLocatorSize = 20,
                 kZip64EndSize = 56, kMaxComment = 65535;
constexpr uint64_t kSee64 = 0xffffffff;  // the value is in the zip64 record or field
constexpr uint16_t kZip64Field = 1;

// `size` bytes at `at`, which the caller has checked to exist.
uint64_t little_endian(std::string_view bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// The body of the extra field `id`; empty if there is none.
std::string_view extra_field(std::string_view extra, uint16_t id) {
  while (extra.size() >= 4) {
    const size_t size = little_endian(extra, 2, 2);
    if (size > extra.size() - 4) break;
    if (little_endian(extra, 0, 2) == id) return extra.substr(4, size);
    extra.remove_prefix(4 + size);
  }
  return {};
}

}  // namespace

ZipReader::ZipReader(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
  read_directory(find_directory());
  check_overlap();
}

const ZipReader::Entry* ZipReader::find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

void ZipReader::fail(std::string_view problem) const {
  fail_format(file_->path().string(), problem);
}

ZipReader::Directory ZipReader::find_directory() const {
  const auto bytes = file_->bytes();
  const size_t furthest = std::min(bytes.size(), kEndSize + kMaxComment);
  for (size_t back = kEndSize; back <= furthest; ++back) {
    const size_t at = bytes.size() - back;
    if (little_endian(bytes, at, 4) != kEndSignature) continue;
    if (little_endian(bytes, at + 20, 2) != back - kEndSize) continue;  // length of the comment
    const Directory directory{little_endian(bytes, at + 16, 4), little_endian(bytes, at + 12, 4),
                              little_endian(bytes, at + 10, 2)};
    return read_zip64_end(at, directory);
  }
  fail_format(file_->path().string(),
              cat("the zip archive has no end record: the file is truncated (it has ", bytes.size(),
                  " bytes) or no zip archive"),
              "copy or download the file again");
}

ZipReader::Directory ZipReader::read_zip64_end(uint64_t end_record, Directory directory) const {
  const auto bytes = file_->bytes();
  uint64_t limit = end_record;  // the central directory ends before this
  const bool has_locator =
      end_record >= kLocatorSize &&
      little_endian(bytes, end_record - kLocatorSize, 4) == kZip64LocatorSignature;
  if (has_locator) {
    limit = end_record - kLocatorSize;
    const uint64_t at = little_endian(bytes, limit + 8, 8);
    if (limit < kZip64EndSize || at > limit - kZip64EndSize ||
        little_endian(bytes, at, 4) != kZip64EndSignature) {
      fail("the zip64 end record is not where its locator says");
    }
    limit = at;
    directory = {little_endian(bytes, at + 48, 8), little_endian(bytes, at + 40, 8),
                 little_endian(bytes, at + 32, 8)};
  }
  if (directory.offset > limit || directory.size > limit - directory.offset) {
    fail(cat("the zip directory (", directory.size, " bytes at ", directory.offset,
             ") lies outside the file's first ", limit, " bytes"));
  }
  if (directory.entries > directory.size / kCentralSize) {
    fail(cat("the zip directory of ", directory.size, " bytes can't hold the ", directory.entries,
             " entries it claims"));
  }
  return directory;
}

void ZipReader::read_directory(const Directory& directory) {
  auto records = file_->bytes().substr(directory.offset, directory.size);
  for (uint64_t i = 0; i < directory.entries; ++i) {
    records.remove_prefix(read_entry(records, directory.offset));
  }
  if (!records.empty()) fail("the zip directory holds more than the entries it claims");
}

// Reads the central record that `records` starts with; returns its length.
size_t ZipReader::read_entry(std::string_view records, uint64_t directory_offset) {
  if (records.size() < kCentralSize || little_endian(records, 0, 4) != kCentralSignature) {
    fail("the zip directory is damaged: an entry does not start with its signature");
  }
  const size_t name_size = little_endian(records, 28, 2),
               extra_size = little_endian(records, 30, 2);
  const size_t length = kCentralSize + name_size + extra_size + little_endian(records, 32, 2);
  if (length > records.size()) fail("the zip directory is damaged: an entry leaves it");
  const std::string name(records.substr(kCentralSize, name_size));
  if (!is_utf8(name)) fail("the name of a zip entry is not UTF-8");
  if ((little_endian(records, 8, 2) & 1) != 0) fail(cat("zip entry ", name, " is encrypted"));
  if (little_endian(records, 10, 2) != 0) {
    fail(cat("zip entry ", name, " is compressed; torch.save stores entries uncompressed"));
  }
  uint64_t stored = little_endian(records, 20, 4), size = little_endian(records, 24, 4);
  uint64_t local = little_endian(records, 42, 4);
  auto wide = extra_field(records.substr(kCentralSize + name_size, extra_size), kZip64Field);
  for (uint64_t* value : {&size, &stored, &local}) {  // in this order, those that did not fit
    if (*value != kSee64) continue;
    if (wide.size() < 8) fail(cat("zip entry ", name, " lacks its zip64 sizes"));
    *value = little_endian(wide, 0, 8);
    wide.remove_prefix(8);
  }
  if (stored != size) fail(cat("zip entry ", name, " has two different sizes"));
  const Entry entry{payload_offset(name, local, directory_offset), size};
  if (size > directory_offset - entry.offset) {
    fail(cat("zip entry ", name, " claims ", size, " bytes, there are ",
             directory_offset - entry.offset, " before the directory"));
  }
  if (!entries_.emplace(name, entry).second) fail(cat("zip entry ", name, " is there twice"));
  return length;
}

// The local header repeats the name; its own length says where the payload starts.
uint64_t ZipReader::payload_offset(const std::string& name, uint64_t local, uint64_t limit) const {
  const auto bytes = file_->bytes();
  if (limit < kLocalSize || local > limit - kLocalSize ||
      little_endian(bytes, local, 4) != kLocalSignature) {
    fail(cat("zip entry ", name, " has no header at byte ", local));
  }
  const uint64_t name_size = little_endian(bytes, local + 26, 2);
  const uint64_t offset = local + kLocalSize + name_size + little_endian(bytes, local + 28, 2);
  if (offset > limit || bytes.substr(local + kLocalSize, name_size) != name) {
    fail(cat("zip entry ", name, " differs between the directory and its own header"));
  }
  return offset;
}

// Overlapping entries are how a small archive claims much content.
void ZipReader::check_overlap() const {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : entries_) {
    if (entry.size > 0) ranges.emplace_back(entry.offset, entry.offset + entry.size);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) fail("entries of the zip archive overlap");
  }
}

}  // namespace llama2zh
