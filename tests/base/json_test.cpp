#include "llama2zh/base/json.h"

#include <gmock/gmock.h>

#include <chrono>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string format_error(std::string_view text, const JsonLimits& limits = {}) {
  return error_text_of(ErrorKind::kFormat, [&] { parse_json(text, "f.json", limits); });
}

TEST(Json, ParsesWhatNlohmannParses) {
  const std::string text =
      R"({"a": [1, -2, 3.5, 18446744073709551615, "\u4e2d\"", true, null, {}, []], "b": {"c": ""}})";
  EXPECT_EQ(parse_json(text, "x"), json::parse(text));
  EXPECT_EQ(parse_ordered_json(text, "x"), ordered_json::parse(text));
  EXPECT_EQ(parse_json("3", "x"), json(3));
}

TEST(Json, OrderedKeepsTheOrderOfKeys) {
  EXPECT_EQ(parse_ordered_json(R"({"z":1,"a":{"y":2,"b":3}})", "x").dump(),
            R"({"z":1,"a":{"y":2,"b":3}})");
  EXPECT_EQ(parse_json(R"({"z":1,"a":2})", "x").dump(), R"({"a":2,"z":1})");
}

TEST(Json, ByteOrderMarkIsSkipped) { EXPECT_EQ(parse_json("\xEF\xBB\xBF{\"a\": 1}", "x")["a"], 1); }

TEST(Json, DepthIsCapped) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(64), "x"));
  EXPECT_EQ(format_error(nested(65)), "f.json:1:65: nested deeper than the 64 levels allowed");
  EXPECT_THAT(format_error(std::string(100000, '[')), StartsWith("f.json:1:65: nested deeper"));
  EXPECT_THAT(format_error(R"({"a":{"b":{}}})", {.max_depth = 2}), StartsWith("f.json:1:11: "));
}

TEST(Json, DuplicateKeysAreRefused) {
  EXPECT_EQ(format_error("{\"中\": 1,\n  \"b\": 2, \"中\": 3}"),
            "f.json:2:11: the key \"中\" is there twice");
  EXPECT_THAT(format_error("{\"a\": 1, \"\\u0061\": 2}"), StartsWith("f.json:1:10: the key \"a\""));
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":1},"b":{"a":1}})", "x"));
  const JsonLimits lenient{.refuse_duplicate_keys = false};
  EXPECT_EQ(parse_json(R"({"a":1,"a":2})", "x", lenient)["a"], 2);
  EXPECT_EQ(parse_ordered_json(R"({"a":1,"b":0,"a":2})", "x", lenient).dump(), R"({"a":2,"b":0})");
}

TEST(Json, ErrorsNameLineAndColumn) {
  EXPECT_THAT(format_error("{\n  \"a\": tru\n}"), StartsWith("f.json:2:11: not valid JSON: "));
  EXPECT_THAT(format_error("{\"中文\": x}"), StartsWith("f.json:1:8: "));
  EXPECT_THAT(format_error("{\"a\": 1"), StartsWith("f.json:1:8: "));
  EXPECT_THAT(format_error(""), StartsWith("f.json:1:1: "));
  EXPECT_THAT(format_error("{} x"), StartsWith("f.json:1:4: "));
  EXPECT_THAT(format_error("[1e999]"), HasSubstr("number overflow"));
  EXPECT_THAT(format_error("[NaN]"), StartsWith("f.json:1:2: "));
  EXPECT_LT(format_error("[\"" + std::string(100000, 'x') + "\n").size(), 400u);
}

TEST(Json, TextThatIsNotUtf8IsAnError) {
  EXPECT_EQ(format_error("{\"a\":\n \"中\xD6\xD0\"}"), "f.json:2:4: the text is not valid UTF-8");
}

TEST(Json, CommentsOnlyWhereAllowed) {
  const std::string text = "// one\n{\"a\": /* two */ 1}";
  EXPECT_EQ(parse_json(text, "x", {.allow_comments = true})["a"], 1);
  EXPECT_THAT(format_error(text), StartsWith("f.json:1:1: "));
}

TEST(Json, KeyLines) {
  KeyLines lines;
  parse_ordered_json(
      "{\n\"a\": 1,\n\"s\": {\"b\": \"x\",\n  // \"no\": 1\n\"t\":\n{\"c\": 1}},\n"
      "\"l\": [{\"d\": 1}, {\"d\": {\"e\": 1}}]\n}",
      "x", {.allow_comments = true}, &lines);
  EXPECT_EQ(lines, (KeyLines{{"a", 2}, {"s", 3}, {"s.b", 3}, {"s.t", 5}, {"s.t.c", 6}, {"l", 7}}));
}

TEST(Json, AnObjectOfManyKeysTakesNoQuadraticTime) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += "\"key" + std::to_string(i) + "\":0,";
  text.back() = '}';
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_ordered_json(text, "x").size(), 200000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Json, FilesRoundTrip) {
  const TempFolder folder;
  const ordered_json value{{"z", "中文\n"}, {"a", {1, 2.5, nullptr}}};
  write_json_file(folder / "x.json", value);
  EXPECT_EQ(read_file(folder / "x.json"),
            "{\n  \"z\": \"中文\\n\",\n  \"a\": [\n    1,\n    2.5,\n    null\n  ]\n}\n");
  EXPECT_EQ(read_ordered_json_file(folder / "x.json"), value);
  EXPECT_EQ(read_json_file(folder / "x.json")["a"][1], 2.5);
}

TEST(Json, FileErrorsNameTheFile) {
  const TempFolder folder;
  write_file_atomic(folder / "x.json", "{\n!");
  EXPECT_THAT(error_text_of(ErrorKind::kFormat, [&] { read_json_file(folder / "x.json"); }),
              StartsWith((folder / "x.json").string() + ":2:1: "));
  error_text_of(ErrorKind::kIo, [&] { read_json_file(folder / "none.json"); });
  EXPECT_THAT(error_text_of(ErrorKind::kData,
                            [&] {
                              write_json_file(folder / "x.json", {{"a", "\xff"}});
                            }),
              HasSubstr("x.json"));
  EXPECT_EQ(read_file(folder / "x.json"), "{\n!");
}

}  // namespace
}  // namespace llama2zh
