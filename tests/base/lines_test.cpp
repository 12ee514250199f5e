#include "llama2zh/base/lines.h"

#include <gmock/gmock.h>
#include <zlib.h>
#include <zstd.h>

#include <vector>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<std::string> lines_of(const fs::path& path) {
  LineReader reader(path);
  std::vector<std::string> lines;
  for (std::string line; reader.next(line);) lines.push_back(line);
  return lines;
}

// 3 MB that do not compress to nothing: several blocks of every buffer.
std::string long_text() {
  std::string text;
  uint32_t state = 1;
  while (text.size() < 3000000) {
    state = state * 1664525 + 1013904223;
    text += std::to_string(state) + (state >> 28 == 0 ? "\n" : " 中文 ");
  }
  return text;
}

class Lines : public testing::Test {
 protected:
  fs::path write(const std::string& bytes) {
    write_file_atomic(folder_ / "f", bytes);
    return folder_ / "f";
  }
  TempFolder folder_;
};

TEST_F(Lines, EndsOfLines) {
  EXPECT_THAT(lines_of(write("a\nb\r\n\r\n\nc")), ElementsAre("a", "b", "", "", "c"));
  EXPECT_THAT(lines_of(write("a\n")), ElementsAre("a"));
  EXPECT_THAT(lines_of(write("a\rb\n")), ElementsAre("a\rb"));
  EXPECT_THAT(lines_of(write("")), ElementsAre());
  EXPECT_THAT(lines_of(write("\n")), ElementsAre(""));
}

TEST_F(Lines, ByteOrderMarkIsDroppedAtTheStartOnly) {
  EXPECT_THAT(lines_of(write("\xEF\xBB\xBF一\n\xEF\xBB\xBF二")),
              ElementsAre("一", "\xEF\xBB\xBF二"));
  EXPECT_THAT(lines_of(write("\xEF\xBB\xBF")), ElementsAre());
  EXPECT_THAT(lines_of(write("\xEF\xBB\xBF\na")), ElementsAre("", "a"));
}

TEST_F(Lines, NumbersLines) {
  LineReader reader(write("a\nb\n"));
  std::string line;
  reader.next(line);
  EXPECT_EQ(reader.line_number(), 1);
  reader.next(line);
  EXPECT_EQ(reader.where(), (folder_ / "f").string() + ":2");
  EXPECT_FALSE(reader.next(line));
  EXPECT_FALSE(reader.next(line));
  EXPECT_EQ(reader.line_number(), 2);
}

TEST_F(Lines, TooLongALineIsAnError) {
  LineReader reader(write("12345\n123456\n"), 5);
  std::string line;
  EXPECT_TRUE(reader.next(line));
  EXPECT_THAT(error_text_of(ErrorKind::kData, [&] { reader.next(line); }),
              HasSubstr("f:2: the line is longer than the 5 B allowed"));
}

TEST_F(Lines, CompressedFilesReadAsPlainOnes) {
  const std::string text = long_text();
  EXPECT_EQ(read_text_file(write(text)), text);
  const auto plain = lines_of(folder_ / "f");
  EXPECT_GT(plain.size(), 1000u);
  EXPECT_EQ(lines_of(write(gzip(text))), plain);
  EXPECT_EQ(read_text_file(folder_ / "f"), text);
  EXPECT_EQ(lines_of(write(zstd(text))), plain);
  EXPECT_EQ(read_text_file(folder_ / "f"), text);
}

TEST_F(Lines, LineEndsSplitOverBlocks) {
  for (size_t size = 65534; size <= 65537; ++size) {
    const std::string first(size, 'x');
    EXPECT_THAT(lines_of(write(first + "\r\nb")), ElementsAre(first, "b")) << size;
  }
}

TEST_F(Lines, SeveralMembersAndFrames) {
  EXPECT_THAT(lines_of(write(gzip("a\nb") + gzip("") + gzip("c\nd"))), ElementsAre("a", "bc", "d"));
  EXPECT_THAT(lines_of(write(zstd("a\nb") + zstd("c\nd"))), ElementsAre("a", "bc", "d"));
  EXPECT_THAT(lines_of(write(gzip(""))), ElementsAre());
  EXPECT_THAT(lines_of(write(zstd(""))), ElementsAre());
}

TEST_F(Lines, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::string text = "one\ntwo\n三\n";
  for (const std::string& whole : {gzip(text), zstd(text)}) {
    for (size_t size = 4; size < whole.size(); ++size) {
      write(whole.substr(0, size));
      const std::string error =
          error_text_of(ErrorKind::kFormat, [&] { read_text_file(folder_ / "f"); });
      EXPECT_THAT(error, HasSubstr((folder_ / "f").string())) << size;
    }
  }
}

TEST_F(Lines, CorruptStreamsAreErrors) {
  const std::string text = long_text();
  std::string bytes = gzip(text);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x55);
  write(bytes);
  EXPECT_THAT(error_text_of(ErrorKind::kFormat, [&] { read_text_file(folder_ / "f"); }),
              HasSubstr("gzip stream is corrupt"));
  write(gzip("a") + "tail");
  EXPECT_THAT(error_text_of(ErrorKind::kFormat, [&] { read_text_file(folder_ / "f"); }),
              HasSubstr("bytes that are not gzip"));
  bytes = zstd(text);
  bytes[20] = static_cast<char>(bytes[20] ^ 0x55);
  write(bytes);
  EXPECT_THAT(error_text_of(ErrorKind::kFormat, [&] { read_text_file(folder_ / "f"); }),
              HasSubstr("zstd stream"));
}

TEST_F(Lines, ABombMeetsTheLimit) {
  write(gzip(std::string(50000000, 'x')));
  EXPECT_LT(fs::file_size(folder_ / "f"), 100000u);
  EXPECT_THAT(error_text_of(ErrorKind::kData, [&] { read_text_file(folder_ / "f", 1000000); }),
              HasSubstr("larger than"));
  LineReader reader(folder_ / "f", 1000000);
  std::string line;
  error_text_of(ErrorKind::kData, [&] { reader.next(line); });
  EXPECT_LE(line.size(), 1000000u);
}

TEST_F(Lines, ReadTextFileWantsUtf8) {
  EXPECT_EQ(read_text_file(write("\xEF\xBB\xBF一\r\n二")), "一\r\n二");
  const auto text_error = [&](const std::string& bytes) {
    write(bytes);
    return error_text_of(ErrorKind::kData, [&] { read_text_file(folder_ / "f"); });
  };
  EXPECT_THAT(text_error("一\n二\xC4\xE3\n"), HasSubstr("f:2:2: the text is not valid UTF-8"));
  EXPECT_THAT(text_error("\xFF"), HasSubstr("f:1:1: "));
  EXPECT_THAT(text_error("a\n\xFF"), HasSubstr("f:2:1: "));
}

TEST_F(Lines, MissingFilesAndFoldersAreErrors) {
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { LineReader(folder_ / "none"); }),
              HasSubstr("none: the file can't be opened"));
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { LineReader(folder_.path()); }),
              HasSubstr("expected a file, found a folder"));
}

}  // namespace
}  // namespace llama2zh
