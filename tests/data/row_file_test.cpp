#include "data/row_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "llama2zh/data/datasets.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<std::string> texts_of(const std::filesystem::path& file,
                                  const std::string& field = "auto") {
  std::vector<std::string> texts;
  for_each_text(file.string(), field, [&](std::string_view text, std::string_view where) {
    texts.emplace_back(text);
    EXPECT_EQ(where.substr(0, file.string().size()), file.string());
  });
  return texts;
}

TEST(RowFile, EveryFormOfPretrainingFile) {
  const TemporaryFolder folder;
  const std::string array = R"([{"input": "甲"}, {"input": "b, ] } \" \\"} , {"input": "丙\n丁"}])";
  const std::string lines =
      "{\"text\": \"甲\"}\r\n\n{\"text\": \"b, ] } \\\" \\\\\"}\n{\"text\": \"丙\\n丁\"}";
  const auto expected = ::testing::ElementsAre("甲", "b, ] } \" \\", "丙\n丁");
  EXPECT_THAT(texts_of(folder.write("a.json", array)), expected);
  EXPECT_THAT(texts_of(folder.write("bom.json", "\xEF\xBB\xBF" + array)), expected);
  EXPECT_THAT(texts_of(folder.write("a.jsonl", lines)), expected);
  EXPECT_THAT(texts_of(folder.write("lines.json", lines)), expected);
  EXPECT_THAT(texts_of(folder.write("array.jsonl", array)), expected);
  EXPECT_THAT(texts_of(folder.write("a.json.gz", gzip(array))), expected);
  EXPECT_THAT(texts_of(folder.write("a.jsonl.gz", gzip(lines))), expected);
  EXPECT_THAT(texts_of(folder.write("a.jsonl.zst", zstd(lines))), expected);
  EXPECT_THAT(texts_of(folder.write("a.txt.zst", zstd("一\r\n\r\n二\r三\n"))),
              ::testing::ElementsAre("一\n\n二\r三\n"));
  EXPECT_THAT(texts_of(folder.write("empty.json", "[ ]\n")), ::testing::IsEmpty());
  EXPECT_THAT(texts_of(folder.write("empty.jsonl", "\n \n")), ::testing::IsEmpty());
}

TEST(RowFile, FieldsAndListsOfTexts) {
  const TemporaryFolder folder;
  const auto poem = folder.write("p.jsonl", R"({"title": "x", "paragraphs": ["春眠", "不觉晓"]})");
  EXPECT_THAT(texts_of(poem, "paragraphs"), ::testing::ElementsAre("春眠\n不觉晓"));
  EXPECT_THAT(texts_of(poem, "title"), ::testing::ElementsAre("x"));
  expect_error(ErrorKind::kData, "p.jsonl:1: the row has no key \"body\"",
               [&] { texts_of(poem, "body"); });
  expect_error(ErrorKind::kData, "neither \"input\" nor \"text\"", [&] { texts_of(poem); });
  const auto number = folder.write("n.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}");
  expect_error(ErrorKind::kData, "n.jsonl:2: expected a text", [&] { texts_of(number); });
}

TEST(RowFile, ErrorsNameFileLineAndColumn) {
  const TemporaryFolder folder;
  const auto fails = [&](const char* name, const std::string& text, ErrorKind kind,
                         const std::string& part) {
    const auto file = folder.write(name, text);
    expect_error(kind, part, [&] { texts_of(file); });
  };
  fails("a.jsonl", "{\"text\": \"甲\"}\n{\"text\": \"甲乙\", nul}\n", ErrorKind::kData,
        "a.jsonl:2:19: not valid JSON");
  fails("a.json", "[{\"text\": \"甲\"},\n  {\"text\": \"甲\" \"b\"}]", ErrorKind::kData,
        "a.json:2:18: not valid JSON");
  fails("lines.json", "[{\"text\": \"甲\"},\n  {\"text\":\n \"甲\" 1}]", ErrorKind::kData,
        "lines.json:3:6: not valid JSON");
  fails("cut.json", "[{\"text\": \"甲\"},\n {\"text\": \"a", ErrorKind::kFormat,
        "the file ends inside the array of rows, in the row that begins in line 2");
  for (const char* text :
       {"{\n  \"input\": \"a\"\n}\n", "{ \"conversations\": [\n", "{\"a\": 1,\n\"b\": 2}\n"})
    fails("indented.json", text, ErrorKind::kFormat, "must hold one array [...] of rows");
  fails("behind.json", "[{\"text\": \"甲\"}]\n x", ErrorKind::kFormat, "behind.json:2:2:");
  fails("comma.json", "[{\"text\": \"a\"},]", ErrorKind::kData, "comma.json:1:16:");
  fails("utf8.jsonl", "{\"text\": \"a\"}\n{\"text\": \"甲\xff\"}", ErrorKind::kData,
        "utf8.jsonl:2:12: the text is not valid UTF-8");
  fails("utf8.txt", "a\n甲\xff", ErrorKind::kData, "utf8.txt:2:2: the text is not valid UTF-8");
  fails("list.jsonl", "[1]\n[2]", ErrorKind::kData, "list.jsonl:1:2: expected a row");
  fails("text.jsonl", "\"a\"\n", ErrorKind::kData, "text.jsonl:1:1: expected a row");
  fails("object.json", "{\n \"text\": \"a\"\n}", ErrorKind::kFormat, "object.json:1:");
  fails("a.csv", "a,b", ErrorKind::kUsage, "expected .txt, .json or .jsonl");
  std::string deep = "{\"text\": ";
  for (int i = 0; i < 100000; ++i) deep += '[';
  fails("deep.jsonl", deep, ErrorKind::kData, "nested deeper");
  fails("deep.json", "[" + deep + "]", ErrorKind::kFormat, "file ends inside the array");
}

TEST(RowFile, CutStreamsAreErrors) {
  const TemporaryFolder folder;
  const std::string whole = gzip(std::string(100000, 'x'));
  const auto cut = folder.write("c.txt.gz", whole.substr(0, whole.size() / 2));
  expect_error(ErrorKind::kFormat, "c.txt.gz", [&] { texts_of(cut); });
}

TEST(ExpandFiles, FilesFoldersAndPatterns) {
  const TemporaryFolder folder;
  const std::string root = folder.path().string();
  for (const char* name : {"b.txt", "a.jsonl.gz", "sub/c.json", "sub/readme.md", "d.txt"})
    folder.write(name, "x");
  const auto names = [&](const std::vector<std::string>& patterns) {
    std::vector<std::string> found;
    for (const std::string& file : expand_files(patterns))
      found.push_back(file.substr(root.size() + 1));
    return found;
  };
  EXPECT_THAT(names({root}), ::testing::ElementsAre("a.jsonl.gz", "b.txt", "d.txt", "sub/c.json"));
  EXPECT_THAT(names({root + "/*.txt"}), ::testing::ElementsAre("b.txt", "d.txt"));
  EXPECT_THAT(names({root + "/d.txt", root + "/*.txt"}), ::testing::ElementsAre("d.txt", "b.txt"));
  expect_error(ErrorKind::kUsage, "/*.zip", [&] { expand_files({root + "/*.zip"}); });
  expect_error(ErrorKind::kUsage, "none.txt", [&] { expand_files({root + "/none.txt"}); });
  std::filesystem::create_directory(folder.path() / "hollow");
  expect_error(ErrorKind::kUsage, "hollow", [&] { expand_files({root + "/hollow"}); });
}

}  // namespace
}  // namespace llama2zh
