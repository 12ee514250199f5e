#include "llama2zh/base/text.h"

#include <gmock/gmock.h>

#include <limits>

namespace llama2zh {
namespace {

using testing::ElementsAre;

TEST(Text, CatJoinSplitTrim) {
  EXPECT_EQ(cat("expected ", 3, " rows, ", 2.5, std::string("!")), "expected 3 rows, 2.5!");
  EXPECT_EQ(join({"a", "b", "c"}, ", "), "a, b, c");
  EXPECT_EQ(join({}, ", "), "");
  EXPECT_THAT(split("a,,b,", ','), ElementsAre("a", "", "b", ""));
  EXPECT_THAT(split("", ','), ElementsAre(""));
  EXPECT_EQ(trim(" \t中文 x\r\n"), "中文 x");
  EXPECT_EQ(trim(" \n "), "");
}

TEST(Text, Numbers) {
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1000), "1,000");
  EXPECT_EQ(with_thousands(1234567), "1,234,567");
  EXPECT_EQ(with_thousands(-123), "-123");
  EXPECT_EQ(with_thousands(-123456), "-123,456");
  EXPECT_EQ(with_thousands(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(uint64_t{13} << 30), "13.0 GiB");
  EXPECT_EQ(human_bytes(std::numeric_limits<uint64_t>::max()), "16.0 EiB");
  EXPECT_EQ(human_duration(0), "0:00");
  EXPECT_EQ(human_duration(59.6), "1:00");
  EXPECT_EQ(human_duration(3599.4), "59:59");
  EXPECT_EQ(human_duration(3725), "1:02:05");
  EXPECT_EQ(human_duration(360000), "100:00:00");
  EXPECT_EQ(human_duration(-1), "?");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::infinity()), "?");
}

TEST(Text, RoundedPrintsShort) {
  EXPECT_EQ(rounded(282.43, 1), 282.4);
  EXPECT_EQ(rounded(76.0999, 2), 76.1);
  EXPECT_EQ(rounded(-1.25e-5, 5), -1e-5);
  EXPECT_EQ(rounded(1234, -2), 1200);
}

TEST(Text, NearestFindsSlipsOnly) {
  const std::vector<std::string> keys{"rank", "alpha", "dropout", "learning_rate", "lr"};
  EXPECT_EQ(nearest("rnak", keys), "rank");
  EXPECT_EQ(nearest("ranks", keys), "rank");
  EXPECT_EQ(nearest("learnin_rate", keys), "learning_rate");
  EXPECT_EQ(nearest("dropuot", keys), "dropout");
  EXPECT_EQ(nearest("l", keys), "lr");
  EXPECT_EQ(nearest("temperature", keys), "");
  EXPECT_EQ(nearest("x", keys), "");
  EXPECT_EQ(nearest("", keys), "");
  EXPECT_EQ(nearest("rank", {}), "");
}

}  // namespace
}  // namespace llama2zh
