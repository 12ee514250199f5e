// https://protobuf.dev/programming-guides/encoding: a message is a sequence of fields, each a
// varint key (number << 3 | type) and a value. Groups (types 3 and 4) are not read: no message here
// has any.
#include "llama2zh/base/wire.h"

#include <bit>
#include <limits>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr uint64_t kMaxFieldNumber = (uint64_t{1} << 29) - 1;

uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

void append_varint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void append_key(std::string& out, uint32_t number, WireType type) {
  if (number == 0 || number > kMaxFieldNumber) {
    fail_format("protobuf writer", cat("field number ", number, " is not one"));
  }
  append_varint(out, uint64_t{number} << 3 | static_cast<uint64_t>(type));
}

void append_little_endian(std::string& out, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

}  // namespace

float WireField::as_float() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
double WireField::as_double() const { return std::bit_cast<double>(value); }

uint64_t WireReader::varint() {
  uint64_t value = 0;
  for (size_t i = 0; i < rest_.size(); ++i) {
    const auto byte = static_cast<uint8_t>(rest_[i]);
    // Ten bytes hold 70 bits: the tenth may carry the 64th bit and nothing else.
    if (i == 9 && byte > 1) fail_format(where_, "malformed protobuf: a varint exceeds 64 bits");
    value |= uint64_t{byte & 0x7Fu} << (7 * i);
    if (byte < 0x80) {
      rest_.remove_prefix(i + 1);
      return value;
    }
  }
  fail_format(where_, "malformed protobuf: the message ends inside a varint");
}

std::string_view WireReader::take(size_t size) {
  if (size > rest_.size()) {
    fail_format(where_, cat("malformed protobuf: a field of ", size, " bytes where only ",
                            rest_.size(), " are left"));
  }
  const std::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

bool WireReader::next(WireField& field) {
  if (rest_.empty()) return false;
  const std::string_view begin = rest_;
  const uint64_t key = varint();
  if (key >> 3 == 0 || key >> 3 > kMaxFieldNumber) {
    fail_format(where_, cat("malformed protobuf: field number ", key >> 3));
  }
  field = {};
  field.number = static_cast<uint32_t>(key >> 3);
  field.type = static_cast<WireType>(key & 7);
  switch (field.type) {
    case WireType::kVarint:
      field.value = varint();
      break;
    case WireType::kFixed64:
      field.value = little_endian(take(8));
      break;
    case WireType::kFixed32:
      field.value = little_endian(take(4));
      break;
    case WireType::kBytes:
      field.bytes = take(varint());
      break;
    default:
      fail_format(where_, cat("malformed protobuf: field ", field.number, " has wire type ",
                              key & 7, ", expected 0, 1, 2 or 5"));
  }
  field.raw = begin.substr(0, begin.size() - rest_.size());
  return true;
}

void WireWriter::varint(uint32_t number, uint64_t value) {
  append_key(out_, number, WireType::kVarint);
  append_varint(out_, value);
}

void WireWriter::fixed32(uint32_t number, float value) {
  append_key(out_, number, WireType::kFixed32);
  append_little_endian(out_, std::bit_cast<uint32_t>(value), 4);
}

void WireWriter::fixed64(uint32_t number, double value) {
  append_key(out_, number, WireType::kFixed64);
  append_little_endian(out_, std::bit_cast<uint64_t>(value), 8);
}

void WireWriter::bytes(uint32_t number, std::string_view value) {
  append_key(out_, number, WireType::kBytes);
  append_varint(out_, value.size());
  out_ += value;
}

}  // namespace llama2zh
