// Zip archives of stored entries: PKWARE's APPNOTE.TXT 6.3.10 (see zip_reader.cpp). As
// caffe2/serialize/inline_container.cc does, an extra field with the id "FB" fills the local header
// so that the payload starts at a multiple of 64.
#include "formats/zip_writer.h"

#include <zlib.h>

namespace llama2zh {
namespace {

constexpr uint64_t kPayloadAlignment = 64;
constexpr uint32_t kInZip64 = 0xffffffff;
constexpr uint16_t kVersionPlain = 10, kVersionZip64 = 45;
constexpr uint16_t kUtf8Names = 1 << 11;
constexpr uint16_t kDosDate = 1 << 5 | 1;  // 1 January 1980: equal tensors give equal files

void put(std::string& out, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// Version, flags, method (stored), time, date, crc and sizes: the same in both headers.
void put_common(std::string& out, bool zip64, uint32_t crc, uint64_t size) {
  put(out, zip64 ? kVersionZip64 : kVersionPlain, 2);
  put(out, kUtf8Names, 2);
  put(out, 0, 4);
  put(out, kDosDate, 2);
  put(out, crc, 4);
  put(out, zip64 ? kInZip64 : size, 4);
  put(out, zip64 ? kInZip64 : size, 4);
}

}  // namespace

void ZipWriter::add(const std::string& name, const void* data, uint64_t size) {
  Entry entry{name, file_.offset(), size, 0};
  entry.crc = static_cast<uint32_t>(crc32_z(0, static_cast<const Bytef*>(data), size));
  std::string extra;
  if (wide(size)) {
    put(extra, 1, 2);
    put(extra, 16, 2);
    put(extra, size, 8);
    put(extra, size, 8);
  }
  const uint64_t unpadded = entry.offset + 30 + name.size() + extra.size() + 4;
  const uint64_t padding = (kPayloadAlignment - unpadded % kPayloadAlignment) % kPayloadAlignment;
  extra += "FB";
  put(extra, padding, 2);
  extra.append(padding, 'Z');
  std::string header = "PK\x03\x04";
  put_common(header, wide(size), entry.crc, size);
  put(header, name.size(), 2);
  put(header, extra.size(), 2);
  file_.write(header + name + extra);
  file_.write(data, size);
  entries_.push_back(std::move(entry));
}

void ZipWriter::finish() {
  const uint64_t start = file_.offset();
  for (const auto& entry : entries_) {
    std::string extra;
    const bool wide_size = wide(entry.size), wide_offset = wide(entry.offset);
    if (wide_size || wide_offset) {
      put(extra, 1, 2);
      put(extra, (wide_size ? 16 : 0) + (wide_offset ? 8 : 0), 2);
      if (wide_size) put(extra, entry.size, 8);
      if (wide_size) put(extra, entry.size, 8);
      if (wide_offset) put(extra, entry.offset, 8);
    }
    std::string record = "PK\x01\x02";
    put(record, kVersionZip64, 2);
    put_common(record, wide_size, entry.crc, entry.size);
    put(record, entry.name.size(), 2);
    put(record, extra.size(), 2);
    put(record, 0, 10);  // comment, disk, attributes
    put(record, wide_offset ? kInZip64 : entry.offset, 4);
    file_.write(record + entry.name + extra);
  }
  const uint64_t end = file_.offset(), size = end - start, count = entries_.size();
  std::string tail;
  const bool zip64 = wide(start) || wide(size) || count >= 0xffff;
  if (zip64) {
    tail += "PK\x06\x06";
    put(tail, 44, 8);
    put(tail, kVersionZip64, 2);
    put(tail, kVersionZip64, 2);
    put(tail, 0, 8);  // disks
    put(tail, count, 8);
    put(tail, count, 8);
    put(tail, size, 8);
    put(tail, start, 8);
    tail += "PK\x06\x07";
    put(tail, 0, 4);
    put(tail, end, 8);
    put(tail, 1, 4);
  }
  tail += "PK\x05\x06";
  put(tail, 0, 4);
  put(tail, zip64 ? 0xffff : count, 2);
  put(tail, zip64 ? 0xffff : count, 2);
  put(tail, zip64 ? kInZip64 : size, 4);
  put(tail, zip64 ? kInZip64 : start, 4);
  put(tail, 0, 2);
  file_.write(tail);
}

}  // namespace llama2zh
