#include "llama2zh/base/hash.h"

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

// FIPS 180-4's examples; the last two by Python's hashlib.
TEST(Hash, Sha256Vectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex("中文"), "72726d8818f693066ceb69afa364218b692e62ea92b385782363780f47529c21");
}

TEST(Hash, Sha256OfAFileOfSeveralBlocks) {
  const TempFolder folder;
  write_file_atomic(folder / "x", std::string(3000000, 'a'));
  EXPECT_EQ(sha256_file(folder / "x"),
            "2a152c894398719c0570f83fac34ac03a0f6e8e474b995c2403aa5434f7b9dd4");
}

// xxHash's own sanity values.
TEST(Hash, Xxh64Vectors) {
  EXPECT_EQ(xxh64(""), 0xEF46DB3751D8E999u);
  EXPECT_EQ(xxh64("", 2654435761u), 0xAC75FDA2929B17EFu);
  EXPECT_EQ(xxh64("abc"), 0x44BC2CF5AD770999u);
}

TEST(Hash, Xxh64OfAFileIsThatOfItsBytes) {
  const TempFolder folder;
  write_file_atomic(folder / "empty", "");
  EXPECT_EQ(xxh64_file(folder / "empty"), "ef46db3751d8e999");
  const std::string bytes(3000001, 'b');
  write_file_atomic(folder / "x", bytes);
  EXPECT_EQ(std::stoull(xxh64_file(folder / "x"), nullptr, 16), xxh64(bytes));
}

TEST(Hash, UnreadableFilesAreErrors) {
  const TempFolder folder;
  error_text_of(ErrorKind::kIo, [&] { sha256_file(folder / "none"); });
  error_text_of(ErrorKind::kIo, [&] { xxh64_file(folder.path()); });
}

TEST(Hash, Crc32cOfKnownTexts) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // the polynomial's check value
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0u);
}

}  // namespace
}  // namespace llama2zh
