// GGUF files that lie: each is refused with an error that says what is wrong, and before anything of
// the claimed size is allocated.
#include <limits>

#include "format_test.h"
#include "gguf_test_util.h"
#include "llama2zh/formats/gguf.h"

namespace llama2zh {
namespace {

using format_test::expect_error;
using format_test::Scratch;
using gguf_test::GgufBytes;

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

class GgufHostile : public testing::Test {
 protected:
  template <typename... Parts>
  void refuse(const std::string& bytes, const Parts&... parts) {
    const auto path = folder_.write("bad.gguf", bytes);
    expect_error(
        ErrorKind::kFormat, [&] { GgufFile::open(path); }, path.string(), parts...);
  }
  template <typename... Parts>
  void refuse(const GgufBytes& bytes, const Parts&... parts) {
    refuse(bytes.str(), parts...);
  }
  Scratch folder_;
};

// One file with a bit of everything.
std::string whole_file() {
  GgufBytes file;
  file.head(2, 4);
  file.string("general.architecture").u32(8).string("llama");
  file.string("tokens").u32(9).u32(8).u64(3).string("a").string("bc").string("");
  file.string("scores").u32(9).u32(6).u64(2).number(1.0F).number(2.0F);
  file.string("general.alignment").u32(4).u32(32);
  file.tensor("a", {32, 2}, 8, 0).tensor("b", {3}, 0, 96).pad();
  file.raw(std::string(96 + 12, '\x01'));
  return file.str();
}

TEST_F(GgufHostile, EveryTruncationIsRefused) {
  const std::string whole = whole_file();
  EXPECT_EQ(GgufFile::open(folder_.write("good.gguf", whole))->tensors().size(), 2u);
  for (size_t size = 0; size < whole.size(); ++size) refuse(whole.substr(0, size), "truncated");
}

TEST_F(GgufHostile, EveryFlippedByteIsRefusedOrReads) {
  const std::string whole = whole_file();
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const auto path = folder_.write("bad.gguf", bytes);
      try {
        const auto gguf = GgufFile::open(path);
        for (const TensorInfo& info : gguf->tensors()) gguf->load(info.name);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kFormat) << error.what();
      }
    }
  }
}

TEST_F(GgufHostile, OtherFilesAndVersions) {
  refuse(std::string("GGML\x03\0\0\0", 8), "does not start with");
  refuse("version https://git-lfs.github.com/spec/v1\noid", "git lfs pull");
  refuse(GgufBytes().head(0, 0, 1), "version 1", "2 or 3");
  refuse(GgufBytes().head(0, 0, 4), "version 4");
  refuse(GgufBytes().head(0, 0, 0x03000000), "big-endian");
}

TEST_F(GgufHostile, CountsBeyondTheFile) {
  refuse(GgufBytes().head(kHuge, 0), "18446744073709551615 tensors");
  refuse(GgufBytes().head(0, kHuge), "metadata keys");
  refuse(GgufBytes().head(1, 0), "1 tensors");
  refuse(GgufBytes().head(0, 1).u64(kHuge).raw("key and more"), "metadata key 0");
  refuse(GgufBytes().head(0, 1).string("k").u32(8).u64(kHuge - 3).raw("abc"), "the value of key k");
  for (const uint32_t kind : {0, 3, 5, 6, 7, 8, 10, 12}) {
    for (const uint64_t count : {uint64_t{9}, uint64_t{1} << 40, (uint64_t{1} << 61) + 1, kHuge}) {
      refuse(GgufBytes().head(0, 1).string("k").u32(9).u32(kind).u64(count).u64(0), "key k",
             "are claimed");
    }
  }
}

TEST_F(GgufHostile, ValuesOfNoKind) {
  const std::string more(64, '\0');
  refuse(GgufBytes().head(0, 1).string("k").u32(13).raw(more), "kind 13");
  refuse(GgufBytes().head(0, 1).string("k").u32(9).u32(13).raw(more), "elements of kind 13");
  refuse(GgufBytes().head(0, 1).string("k").u32(9).u32(9).raw(more), "arrays of arrays");
  refuse(GgufBytes().head(0, 1).string("k").u32(7).raw("\x02").raw(more), "a boolean is 0 or 1");
  refuse(GgufBytes().head(0, 1).string("").u32(4).raw(more), "metadata key 0 is empty");
  refuse(GgufBytes().head(0, 1).string("\xff\xfe").u32(4).raw(more), "not UTF-8");
  refuse(GgufBytes().head(0, 1).string(std::string(65536, 'k')).u32(4).raw(more), "65535");
  GgufBytes twice;
  twice.head(0, 2).string("k").u32(4).u32(1).string("k").u32(4).u32(1);
  refuse(twice, "key k stands there twice");
  for (const uint32_t alignment : {0, 3, 48}) {
    GgufBytes file;
    refuse(file.head(0, 1).string("general.alignment").u32(4).u32(alignment), "general.alignment");
  }
}

TEST_F(GgufHostile, TensorsThatCanNotBe) {
  const std::string data(4096, '\0');
  const auto one = [&](std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                       uint64_t offset) {
    return GgufBytes().head(1, 0).tensor(name, dims, type, offset).pad().raw(data).str();
  };
  refuse(one("", {1}, 0, 0), "name of tensor 0 is empty");
  refuse(one(std::string(64, 'n'), {1}, 0, 0), "longer than 63");
  refuse(one("a\xff", {1}, 0, 0), "not UTF-8");
  refuse(one("a", {1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
  refuse(one("a", {kHuge}, 0, 0), "tensor a", "2^63 - 1");
  refuse(one("a", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0), "too large");
  refuse(one("a", {0, uint64_t{1} << 62, uint64_t{1} << 62}, 0, 0), "too large");
  refuse(one("a", {33}, 8, 0), "no multiple of 32");
  refuse(one("a", {128, 2}, 12, 0), "no multiple of 256");
  refuse(one("a", {256}, 10, 0), "tensor a", "type 10 (Q2_K)", "Q4_K");
  refuse(one("a", {256}, 999, 0), "type 999");
  refuse(one("a", {8}, 0, 16), "no multiple of 32");
  refuse(one("a", {8}, 0, 4096), "end beyond");
  refuse(one("a", {8}, 0, kHuge - 31), "end beyond");
  refuse(one("a", {1025}, 0, 0), "tensor a", "4100 bytes", "4096 bytes");
}

TEST_F(GgufHostile, TensorsOverEachOther) {
  const auto two = [](const char* second, uint64_t offset) {
    GgufBytes file;
    file.head(2, 0).tensor("a", {16}, 0, 32).tensor(second, {8}, 0, offset).pad();
    return file.raw(std::string(128, '\0')).str();
  };
  EXPECT_NO_THROW(GgufFile::open(folder_.write("good.gguf", two("b", 0))));
  EXPECT_NO_THROW(GgufFile::open(folder_.write("good.gguf", two("b", 96))));
  refuse(two("b", 32), "inside another tensor");
  refuse(two("b", 64), "inside another tensor");
  refuse(two("a", 96), "tensor a stands there twice");
}

}  // namespace
}  // namespace llama2zh
