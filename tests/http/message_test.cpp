#include "llama2zh/http/message.h"

#include <gtest/gtest.h>

namespace llama2zh {
namespace {

TEST(Message, FindsHeadersWhateverTheirCase) {
  const HttpRequest request{.headers = {{"Content-Type", "a"}, {"X-Y", "b"}, {"x-y", "c"}}};
  EXPECT_EQ(request.header("content-type"), "a");
  EXPECT_EQ(request.header("X-y"), "b");
  EXPECT_EQ(request.header("absent"), "");
}

TEST(Message, DecodesPercentEscapes) {
  std::string out;
  ASSERT_TRUE(decode_percent("/a%20b%e4%BD%A0+", out));
  EXPECT_EQ(out, "/a b你+");
  for (const char* bad : {"%", "%1", "%zz", "a%00b"}) EXPECT_FALSE(decode_percent(bad, out)) << bad;
}

TEST(Message, CodingsMayBeRefused) {
  for (const char* yes :
       {"gzip", "br, gzip", "GZIP;q=0.1", "*", "deflate , gzip ; q=1", "*;q=0, gzip"})
    EXPECT_TRUE(accepts_coding(yes, "gzip")) << yes;
  for (const char* no : {"", "br", "gzip;q=0", "gzip; q=0.0, *", "xgzip", "*;q=0", "br;gzip"})
    EXPECT_FALSE(accepts_coding(no, "gzip")) << no;
}

TEST(Message, ReadsQueries) {
  EXPECT_EQ(query_value("a=1&b=x%3Dy&c", "b"), "x=y");
  EXPECT_EQ(query_value("a=1&b=2&c", "c"), "");
  EXPECT_EQ(query_value("ab=1", "a"), "");
  EXPECT_EQ(query_value("", "a"), "");
}

}  // namespace
}  // namespace llama2zh
