#include "engine/stop_texts.h"

#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

using testing::byte_token;
using testing::kFirstPiece;

class StopTexts : public ::testing::Test {
 protected:
  // Pieces that are not in the list come as bytes.
  std::vector<TokenId> tokens_of(const std::vector<std::string>& texts) {
    std::vector<TokenId> ids;
    for (const std::string& text : texts) {
      if (const auto id = tokenizer_.id_of(text)) {
        ids.push_back(*id);
      } else {
        for (const char byte : text) ids.push_back(byte_token(static_cast<uint8_t>(byte)));
      }
    }
    return ids;
  }
  // What each token releases, then what finish() does.
  std::vector<std::string> stream(const std::vector<std::string>& texts,
                                  const std::vector<std::string>& stops) {
    AnswerText answer(tokenizer_, stops);
    std::vector<std::string> out;
    for (const TokenId id : tokens_of(texts)) out.push_back(answer.push(id));
    out.push_back(answer.finish());
    stopped_ = answer.stopped();
    std::string all;
    for (const std::string& piece : out) {
      EXPECT_TRUE(is_utf8(piece));
      all += piece;
    }
    EXPECT_EQ(all, answer.released());
    return out;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(
      folder_.path(), {"ab", "cS", "TO", "Px", "Q", "人", "工", "\n", "human", ":", "ST"});
  bool stopped_ = false;
};

TEST_F(StopTexts, StopInsideTokensIsNeverReleased) {
  EXPECT_EQ(stream({"ab", "cS", "TO", "Px", "Q"}, {"STOP"}),
            (std::vector<std::string>{"ab", "c", "", "", "", ""}));
  EXPECT_TRUE(stopped_);
}

TEST_F(StopTexts, TheStopMayStay) {
  AnswerText answer(tokenizer_, {"STOP", "Px"}, {}, {.keep_stop = true});
  std::string all;
  for (const TokenId id : tokens_of({"ab", "cS", "TO", "Px", "Q"})) all += answer.push(id);
  all += answer.finish();
  EXPECT_EQ(all, "abcSTOP");
  EXPECT_EQ(answer.stop_text(), "STOP");
}

TEST_F(StopTexts, FalseBeginningIsReleasedLater) {
  EXPECT_EQ(stream({"cS", "TO", "ab"}, {"STOP"}), (std::vector<std::string>{"c", "", "STOab", ""}));
  EXPECT_FALSE(stopped_);
  // "ST" begins again inside what was held back.
  EXPECT_EQ(stream({"ST", "ST", "TO", "Q"}, {"STOP"}),
            (std::vector<std::string>{"", "ST", "STTO", "Q", ""}));
}

TEST_F(StopTexts, HeldBackEndIsReleasedByFinish) {
  EXPECT_EQ(stream({"ab", "ST"}, {"STOP"}), (std::vector<std::string>{"ab", "", "ST"}));
}

TEST_F(StopTexts, EarliestStopWins) {
  EXPECT_EQ(stream({"ab", "Q"}, {"Q", "bQ"}), (std::vector<std::string>{"a", "", ""}));
  EXPECT_TRUE(stopped_);
}

TEST_F(StopTexts, ChineseStopOverByteTokens) {
  // 智 comes as three bytes; the stop text is 工智, so 工 waits for all three.
  EXPECT_EQ(stream({"人", "工", "智"}, {"工智"}),
            (std::vector<std::string>{"人", "", "", "", "", ""}));
  EXPECT_TRUE(stopped_);
  EXPECT_EQ(stream({"人", "工", "能"}, {"工智"}),
            (std::vector<std::string>{"人", "", "", "", "工能", ""}));
  EXPECT_FALSE(stopped_);
}

TEST_F(StopTexts, BrokenCharacterBecomesReplacement) {
  EXPECT_EQ(stream({"人", "\xE4\xBA"}, {}),
            (std::vector<std::string>{"人", "", "", "\uFFFD\uFFFD"}));
}

TEST_F(StopTexts, BadStopTextsAreRefused) {
  EXPECT_THROW(AnswerText(tokenizer_, {""}), Error);
  EXPECT_THROW(AnswerText(tokenizer_, {"\xFF"}), Error);
}

}  // namespace
}  // namespace llama2zh
