#include "llama2zh/base/utf8.h"

#include <gmock/gmock.h>

namespace llama2zh {
namespace {

using testing::ElementsAre;

const char* const kMixed =
    "中文 ab，你好！\xF0\x9F\x98\x80\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA7é";

TEST(Utf8, StrictValidation) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8(kMixed));
  EXPECT_TRUE(is_utf8("\xEE\x80\x80\xEF\xBF\xBF\xF4\x8F\xBF\xBF\xED\x9F\xBF"));
  for (const char* bad :
       {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE4\xB8", "\xF0\x9F\x98", "\xC2"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad;
    EXPECT_EQ(utf8_error_offset(std::string("中a") + bad), 4u);
  }
}

TEST(Utf8, EveryCodepointRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const auto back = utf8_to_codepoints(text);
    ASSERT_TRUE(back.size() == 1 && back[0] == c && is_utf8(text)) << static_cast<uint32_t>(c);
  }
  std::string text;
  append_utf8(text, 0xD800);
  append_utf8(text, 0x110000);
  EXPECT_EQ(text, "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Utf8, LengthAndCodepoints) {
  EXPECT_EQ(utf8_length("中文a\xF0\x9F\x98\x80"), 4u);
  EXPECT_THAT(utf8_to_codepoints("中\xFF\xF0\x9F\x98\x80"), ElementsAre(0x4E2D, 0xFFFD, 0x1F600));
}

// Expected values: Python's bytes.decode("utf-8", "replace").
TEST(Utf8, SanitizeReplacesMaximalSubparts) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(utf8_sanitize(kMixed), kMixed);
  EXPECT_EQ(utf8_sanitize("a\xE4\xB8"
                          "b"),
            "a" + r + "b");
  EXPECT_EQ(utf8_sanitize("\xF0\x9F\x98"), r);
  EXPECT_EQ(utf8_sanitize("\xF0\x80\x80\x80"), r + r + r + r);
  EXPECT_EQ(utf8_sanitize("\xED\xA0\x80"), r + r + r);
  EXPECT_EQ(utf8_sanitize("\xC0\xAF"), r + r);
  EXPECT_EQ(utf8_sanitize("\xF4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(utf8_sanitize("\xE4\xBD\xA0\xE5\xA5"), "你" + r);
  EXPECT_EQ(utf8_sanitize("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(utf8_sanitize("\xF5\x80"), r + r);
}

// Streaming: wherever the text is cut, what is given out is valid, what is held back is less than
// one character, and the parts joined are the text.
TEST(Utf8, HoldBackOnEverySplit) {
  const std::string text = kMixed;
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      std::string pending;
      std::string shown;
      for (const std::string& chunk :
           {text.substr(0, first), text.substr(first, second - first), text.substr(second)}) {
        pending += chunk;
        const size_t complete = utf8_complete_prefix(pending);
        ASSERT_TRUE(is_utf8(pending.substr(0, complete))) << first << " " << second;
        ASSERT_LE(pending.size() - complete, 3u);
        shown += pending.substr(0, complete);
        pending.erase(0, complete);
      }
      ASSERT_EQ(shown, text);
      ASSERT_EQ(pending, "");
    }
  }
}

TEST(Utf8, CompletePrefixIsTheLongest) {
  const std::string text = "中\xF0\x9F\x98\x80";
  const size_t expected[] = {0, 0, 0, 3, 3, 3, 3, 7};
  for (size_t size = 0; size <= text.size(); ++size) {
    EXPECT_EQ(utf8_complete_prefix(text.substr(0, size)), expected[size]) << size;
  }
}

TEST(Utf8, InvalidBytesAreNotHeldBack) {
  EXPECT_EQ(utf8_complete_prefix("a\x80"), 2u);
  EXPECT_EQ(utf8_complete_prefix("\x80\x80\x80\x80"), 4u);
  EXPECT_EQ(utf8_complete_prefix("\xFF"), 1u);
  EXPECT_EQ(utf8_complete_prefix("\xC0"), 1u);
  EXPECT_EQ(utf8_complete_prefix("\xE0\x80"), 2u);      // no character begins so
  EXPECT_EQ(utf8_complete_prefix("\xED\xA0"), 2u);      // a surrogate
  EXPECT_EQ(utf8_complete_prefix("\xE4\xE4"), 1u);      // the second may still become one
  EXPECT_EQ(utf8_complete_prefix("\xC2\x80\x80"), 3u);  // a whole one, then a stray byte
}

TEST(Utf8, InvalidLength) {
  EXPECT_EQ(utf8_invalid_length("\xFF"), 1u);
  EXPECT_EQ(utf8_invalid_length("\xE4\xB8"), 2u);
  EXPECT_EQ(utf8_invalid_length("\xE4\xB8"
                                "a"),
            2u);
  EXPECT_EQ(utf8_invalid_length("\xF0\x9F\x98 \x80"), 3u);
}

TEST(Utf8, NormalFormC) {
  EXPECT_EQ(utf8_nfc(""), "");
  EXPECT_EQ(utf8_nfc("e\u0301 \u212B 가 中"), "\u00e9 \u00c5 가 中");
  EXPECT_EQ(utf8_nfc("\uFB01"), "\uFB01");  // compatibility forms stay
}

TEST(Utf8, Han) {
  for (const char32_t c : {U'中', U'〇', U'㐀', U'𠮷', U'豈'}) EXPECT_TRUE(is_han(c));
  for (const char32_t c : {U'a', U'，', U'。', U'あ', U'한', U'Ａ', U'é'}) EXPECT_FALSE(is_han(c));
}

TEST(Utf8, DisplayWidth) {
  EXPECT_EQ(display_width(""), 0u);
  EXPECT_EQ(display_width("abc"), 3u);
  EXPECT_EQ(display_width("中文，"), 6u);
  EXPECT_EQ(display_width("e\xCC\x81"), 1u);  // combining accent
  EXPECT_EQ(display_width("\xF0\x9F\x98\x80"), 2u);
  EXPECT_EQ(display_width("\x1b\n"), 0u);
}

}  // namespace
}  // namespace llama2zh
