#include "llama2zh/data/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/expect_error.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using Fields = std::vector<std::string>;

std::vector<Fields> fields_of(std::string_view text) {
  std::vector<Fields> out;
  for (const CsvRow& row : parse_csv(text, "x.csv")) out.push_back(row.fields);
  return out;
}

TEST(Csv, ReadsFieldsAsTheyStand) {
  EXPECT_EQ(fields_of("id,问题,A\n0, 水 ,1.50\n"),
            (std::vector<Fields>{{"id", "问题", "A"}, {"0", " 水 ", "1.50"}}));
  EXPECT_EQ(fields_of("\xEF\xBB\xBFid,B\r\n1,\r\n,2"),
            (std::vector<Fields>{{"id", "B"}, {"1", ""}, {"", "2"}}));
  EXPECT_EQ(fields_of("a,b\r1,2\r\r3,4\n\n"),
            (std::vector<Fields>{{"a", "b"}, {"1", "2"}, {"3", "4"}}));
  EXPECT_TRUE(fields_of("").empty());
}

TEST(Csv, ReadsQuotesAndEndsOfLinesInFields) {
  EXPECT_EQ(fields_of("\"甲，\"\"乙\"\"\",\"一\n二\r\n,三\",\"\"\n x\"y,5\",6\n"),
            (std::vector<Fields>{{"甲，\"乙\"", "一\n二\r\n,三", ""}, {" x\"y", "5\"", "6"}}));
  const std::vector<CsvRow> rows = parse_csv("a,b\n\"1\n2\",3\n\n4,5\n", "x.csv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1].line, 2);
  EXPECT_EQ(rows[2].line, 5);
}

TEST(Csv, SaysWhereItIsWrong) {
  const auto problem = [](std::string_view text) {
    return error_text_of(ErrorKind::kFormat, [&] { parse_csv(text, "x.csv"); });
  };
  EXPECT_THAT(problem("a,b\n\n1,2,3\n"), HasSubstr("x.csv:3: the row has 3 fields"));
  EXPECT_THAT(problem("a,b\n1,\"2\n3\n"), HasSubstr("x.csv:2: a quoted field does not end"));
  EXPECT_THAT(problem("a\n\"b\"c\n"), HasSubstr("x.csv:2: there is text behind"));
}

TEST(Csv, WritesWhatItReads) {
  const Fields fields = {"a", "", "一,二", "say \"x\"", "1\n2", " b "};
  const std::string line = csv_line(fields);
  EXPECT_EQ(line, "a,,\"一,二\",\"say \"\"x\"\"\",\"1\n2\", b \n");
  EXPECT_EQ(fields_of(line), std::vector<Fields>{fields});
}

}  // namespace
}  // namespace llama2zh
