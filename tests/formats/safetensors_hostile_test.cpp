// Safetensors files from strangers (reliability tests F1-F5): every lie of a header is a kFormat
// error that names the file, before anything is allocated for it.
#include <ATen/ops/arange.h>

#include "format_test.h"
#include "formats/safetensors_header.h"
#include "llama2zh/base/random.h"
#include "llama2zh/formats/safetensors.h"

namespace llama2zh {
namespace {

using format_test::expect_error;
using format_test::little_endian_u64;
using format_test::Scratch;

// A file with that header and `data` zero bytes behind it must be refused with the words.
void expect_refused(const std::string& header, size_t data, const std::string& words) {
  const Scratch folder;
  const auto file = folder.write(
      "evil.safetensors", little_endian_u64(header.size()) + header + std::string(data, '\0'));
  SCOPED_TRACE(header.substr(0, 200));
  expect_error(
      ErrorKind::kFormat, [&] { open_safetensors(file); }, "evil.safetensors", words);
}

std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "\"F32\"") {
  return R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(SafetensorsHostile, HeaderLength) {
  const Scratch folder;
  const auto refused = [&](const std::string& bytes, const std::string& words) {
    const auto file = folder.write("f1.safetensors", bytes);
    expect_error(
        ErrorKind::kFormat, [&] { open_safetensors(file); }, "f1.safetensors", words);
  };
  for (size_t size = 0; size < 8; ++size) {
    refused(std::string(size, '\1'), std::to_string(10 - size) + " bytes are missing");
  }
  refused(little_endian_u64(~uint64_t{0}) + "{}", "a header of 18446744073709551615 bytes");
  refused(little_endian_u64(100'000'001) + "{}", "a header of 100000001 bytes");
  refused(little_endian_u64(0), "a header of 0 bytes");
  refused(little_endian_u64(100) + "{}", "98 bytes of the header and all tensors are missing");
  refused(little_endian_u64(~uint64_t{0} - 7) + "{}", "a header of");  // 8 + N wraps to 0
  refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull");
}

TEST(SafetensorsHostile, Layout) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + a +
           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + b + "}}";
  };
  expect_refused(two("[0,8]", "[4,12]"), 12, "overlap");
  expect_refused(two("[0,8]", "[0,8]"), 8, "overlap");
  expect_refused(two("[0,8]", "[12,20]"), 20, "hole");
  expect_refused(two("[4,12]", "[12,20]"), 20, "hole");
  expect_refused(two("[0,8]", "[8,16]"), 17, "1 bytes follow the last tensor");
  expect_refused("{}", 4, "4 bytes follow the last tensor");
  expect_refused(entry("[2]", "[8,0]"), 8, "begin (8) lies after end (0)");
  expect_refused(entry("[2]", "[0,4]"), 4, "needs 8 bytes");
  expect_refused(entry("[0]", "[4,4]"), 8, "4 bytes follow");
  expect_refused(entry("[2]", "[18446744073709551608,18446744073709551616]"), 8, "data_offsets");
  expect_refused(entry("[2]", "[-8,0]"), 8, "data_offsets");
  expect_refused(entry("[2]", "[0]"), 8, "data_offsets");
  expect_refused(entry("[2]", "[0,8,8]"), 8, "data_offsets");
  expect_refused(entry("[2]", "[0.0,8.0]"), 8, "data_offsets");
}

TEST(SafetensorsHostile, ShapeOverflow) {
  expect_refused(entry("[4294967296,4294967296]", "[0,0]"), 0, "overflows");  // 2^64 wraps to 0
  expect_refused(entry("[4611686018427387904]", "[0,0]"), 0, "overflows");    // 2^62 * 4 = 2^64
  expect_refused(entry("[65537,65536]", "[0,262144]"), 262144, "needs 17180131328 bytes");
  expect_refused(entry("[0,9223372036854775807,2]", "[0,0]"), 0, "overflows");
  expect_refused(entry("[9223372036854775808]", "[0,0]"), 0, "the shape holds 9223372036854775808");
  expect_refused(entry("[-2]", "[0,8]"), 8, "the shape holds -2");
  expect_refused(entry("[-2,-1]", "[0,8]"), 8, "the shape holds -2");
  expect_refused(entry("[1e300]", "[0,8]"), 8, "the shape holds 1e+300");
  expect_refused(entry("[2.0]", "[0,8]"), 8, "the shape holds 2.0");
  expect_refused(entry("[\"2\"]", "[0,8]"), 8, "the shape holds \"2\"");
  expect_refused(entry("[36893488147419103232]", "[0,8]"), 8, "the shape holds");
  expect_refused(entry("2", "[0,8]"), 8, "the shape must be a list");
  std::string ones = "[1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  expect_refused(entry(ones + "]", "[0,4]"), 4, "at most 64");
}

TEST(SafetensorsHostile, Json) {
  expect_refused("[{}]", 0, "does not start with '{'");
  expect_refused(" {}", 0, "does not start with '{'");
  expect_refused("{\"\xff\":1}", 0, "evil.safetensors");
  expect_refused("{\"a\":", 0, "evil.safetensors");
  expect_refused("{} x", 0, "evil.safetensors");
  const std::string once = R"("t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_refused("{" + once + "," + once + "}", 4, "t");
  expect_refused("{\"t\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}", 0,
                 "evil.safetensors");
  expect_refused("{\"t\":" + std::string(100'000, '[') + "}", 0, "evil.safetensors");
  expect_refused(R"({"__metadata__":{"format":1}})", 0, "__metadata__ key format");
  expect_refused(R"({"__metadata__":{"a":{"b":"c"}}})", 0, "__metadata__ key a");
  expect_refused(R"({"__metadata__":"pt"})", 0, "__metadata__ must be an object");
  expect_refused(R"({"t":null})", 0, "expected an object with dtype");
  expect_refused(R"({"t":{"dtype":"F32","shape":[0]}})", 0, "expected an object with dtype");
  expect_refused(entry("[2]", "[0,8]", "\"F31\""), 8, "element type \"F31\" is not one of BOOL U8");
  expect_refused(entry("[2]", "[0,8]", "32"), 8, "element type 32");
}

// F5: the message names the file and how much of it is missing.
TEST(SafetensorsHostile, Truncated) {
  const Scratch folder;
  const auto whole = folder / "whole.safetensors";
  write_safetensors(whole, {{"a", at::arange(100.f)}, {"b", at::arange(50.f)}});
  const auto bytes = format_test::bytes_of(whole);
  ASSERT_EQ(bytes.size(), 192 + 600);  // a header of 64 * 3 bytes
  const auto refused = [&](size_t size, const std::string& words) {
    const auto file = folder.write("cut.safetensors", bytes.substr(0, size));
    expect_error(
        ErrorKind::kFormat, [&] { open_tensors(file); }, "cut.safetensors", "truncated", words);
  };
  refused(bytes.size() - 1, "1 bytes are missing (tensor b");
  refused(bytes.size() / 2, "396 bytes are missing");
  refused(192, "600 bytes are missing");
  refused(100, "92 bytes of the header and all tensors are missing");
}

// Any change of a few bytes of the header is either refused or leaves tensors that can be read.
TEST(SafetensorsHostile, RandomDamageIsRefusedOrHarmless) {
  const Scratch folder;
  const auto whole = folder / "whole.safetensors";
  write_safetensors(whole, {{"a", at::arange(24.f).reshape({2, 3, 4})}, {"b", at::arange(7)}});
  const auto bytes = format_test::bytes_of(whole);
  Random random(20);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    auto damaged = bytes;
    for (uint64_t n = 1 + random.below(3); n > 0; --n) {
      damaged[random.below(200)] = "0123456789-+.eE[]{}\":, \x80\xff"[random.below(26)];
    }
    try {
      const auto source = open_safetensors(folder.write("d.safetensors", damaged));
      for (const auto& info : source->tensors()) source->load(info.name).clone();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFormat);
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace llama2zh
