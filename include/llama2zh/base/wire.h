#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llama2zh {

// The protobuf wire format, as much as ModelProto and TensorBoard's Event need; libprotobuf can't
// share a process with Debian's libsentencepiece. https://protobuf.dev/programming-guides/encoding
enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct WireField {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;      // kVarint, kFixed64, kFixed32
  std::string_view bytes;  // kBytes: points into the message
  std::string_view
      raw;  // the field as it stands in the message, key included: for copying unknown fields

  float as_float() const;    // of a kFixed32
  double as_double() const;  // of a kFixed64
};

// Iterates over the fields of one message. Every length is checked; malformed input throws kFormat
// naming `where`.
class WireReader {
 public:
  WireReader(std::string_view message, std::string_view where) : rest_(message), where_(where) {}
  bool next(WireField& field);  // false at the end

 private:
  uint64_t varint();
  std::string_view take(size_t size);
  std::string_view rest_;
  std::string_view where_;
};

class WireWriter {
 public:
  void varint(uint32_t number, uint64_t value);
  void fixed32(uint32_t number, float value);
  void fixed64(uint32_t number, double value);
  void bytes(uint32_t number, std::string_view value);
  void raw(std::string_view field) { out_ += field; }
  const std::string& str() const { return out_; }

 private:
  std::string out_;
};

}  // namespace llama2zh
