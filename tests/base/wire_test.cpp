#include "llama2zh/base/wire.h"

#include <gmock/gmock.h>

#include <limits>
#include <vector>

#include "base/expect_error.h"

namespace llama2zh {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

std::vector<WireField> fields_of(std::string_view message) {
  WireReader reader(message, "m");
  std::vector<WireField> fields;
  for (WireField field; reader.next(field);) fields.push_back(field);
  return fields;
}

std::string wire_error(std::string_view message) {
  return error_text_of(ErrorKind::kFormat, [&] { fields_of(message); });
}

// The examples of protobuf.dev/programming-guides/encoding.
TEST(Wire, KnownEncodings) {
  WireWriter writer;
  writer.varint(1, 150);
  EXPECT_EQ(writer.str(), "\x08\x96\x01");
  WireWriter text;
  text.bytes(2, "testing");
  EXPECT_EQ(text.str(), "\x12\x07testing");
  WireWriter one;
  one.fixed32(3, 1.0f);
  EXPECT_EQ(one.str(), std::string("\x1d\x00\x00\x80\x3f", 5));
  WireWriter two;
  two.fixed64(1, 1.0);
  EXPECT_EQ(two.str(), std::string("\x09\x00\x00\x00\x00\x00\x00\xf0\x3f", 9));
}

TEST(Wire, RoundTrip) {
  WireWriter writer;
  writer.varint(1, 0);
  writer.varint(15, 127);
  writer.varint(16, 128);
  writer.varint(536870911, std::numeric_limits<uint64_t>::max());
  writer.fixed32(2, -0.5f);
  writer.fixed64(3, 1e300);
  writer.bytes(4, std::string("中\0文", 7));
  writer.bytes(5, "");
  const std::vector<WireField> fields = fields_of(writer.str());
  ASSERT_EQ(fields.size(), 8u);
  EXPECT_EQ(fields[0].value, 0u);
  EXPECT_EQ(fields[1].number, 15u);
  EXPECT_EQ(fields[1].value, 127u);
  EXPECT_EQ(fields[2].number, 16u);
  EXPECT_EQ(fields[2].value, 128u);
  EXPECT_EQ(fields[3].number, 536870911u);
  EXPECT_EQ(fields[3].value, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(fields[4].as_float(), -0.5f);
  EXPECT_EQ(fields[5].as_double(), 1e300);
  EXPECT_EQ(fields[6].bytes, std::string("中\0文", 7));
  EXPECT_EQ(fields[7].bytes, "");
  WireWriter copy;
  for (const WireField& field : fields) copy.raw(field.raw);
  EXPECT_EQ(copy.str(), writer.str());
}

TEST(Wire, VarintLimits) {
  // The largest value takes ten bytes, the last of them 1.
  EXPECT_EQ(fields_of("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").at(0).value,
            std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(wire_error("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
              HasSubstr("m: malformed protobuf: a varint exceeds 64 bits"));
  EXPECT_THAT(wire_error("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
              HasSubstr("exceeds 64 bits"));
  // Longer than needed is allowed.
  EXPECT_EQ(fields_of(std::string("\x08\x81\x80\x00", 4)).at(0).value, 1u);
}

TEST(Wire, EveryTruncationIsAnError) {
  WireWriter writer;
  writer.varint(300, 1u << 30);
  const size_t first = writer.str().size();
  writer.bytes(1, "abc");
  const size_t second = writer.str().size();
  writer.fixed32(1, 1);
  const size_t third = writer.str().size();
  writer.fixed64(1, 1);
  const std::string& whole = writer.str();
  for (size_t size = 0; size <= whole.size(); ++size) {
    const bool at_end =
        size == 0 || size == first || size == second || size == third || size == whole.size();
    if (at_end) {
      EXPECT_NO_THROW(fields_of(std::string_view(whole).substr(0, size))) << size;
    } else {
      EXPECT_THAT(wire_error(std::string_view(whole).substr(0, size)),
                  AnyOf(HasSubstr("the message ends inside a varint"), HasSubstr("are left")))
          << size;
    }
  }
}

TEST(Wire, LyingLengthsAndBadKeysAreErrors) {
  EXPECT_THAT(wire_error("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
              HasSubstr("a field of 18446744073709551615 bytes where only 1 are left"));
  EXPECT_THAT(wire_error(std::string_view("\x00\x01", 2)), HasSubstr("field number 0"));
  EXPECT_THAT(wire_error("\x80\x80\x80\x80\x20\x01"), HasSubstr("field number 1073741824"));
  EXPECT_THAT(wire_error("\x0b\x0c"), HasSubstr("wire type 3"));
  EXPECT_THAT(wire_error("\x0e"), HasSubstr("wire type 6"));
  WireWriter writer;
  error_text_of(ErrorKind::kFormat, [&] { writer.varint(0, 1); });
  error_text_of(ErrorKind::kFormat, [&] { writer.varint(1u << 29, 1); });
}

}  // namespace
}  // namespace llama2zh
