// Values of rouge-chinese 1.0.3, NLTK 3.10.4 and sacrebleu 2.6.0; scores_oracle.py compares with them
// on thousands of texts.
#include "llama2zh/eval/text_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/expect_error.h"

namespace llama2zh {
namespace {

template <typename Act>
void expect_score_error(Act act, ErrorKind kind, const std::string& text) {
  const std::string message = error_text_of(kind, act);
  EXPECT_NE(message.find(text), std::string::npos) << message;
}

const WordSegmenter& words() {
  static const WordSegmenter shared;
  return shared;
}

struct Pair {
  std::string prediction, reference;
  TextScores scores;
};
const std::vector<Pair> kPairs = {{"今天天气很好，我们去公园。",
                                   "今天的天气真好！我们一起去公园吧。",
                                   {50.0, 11.1111, 50.0, 14.7087, 17.973409778414997, 0}},
                                  {"", "答案", {0, 0, 0, 0, 0, 0}},
                                  {"机器学习是人工智能的一个分支。机器学习是。",
                                   "机器学习是人工智能的重要分支。它研究算法。",
                                   {73.6842, 50.0, 66.6667, 50.9796, 45.744682375874326, 0}},
                                  {"结束了。 \n\n 。好",
                                   "结束了。\n\n好。",
                                   {100.0, 66.6667, 85.7143, 33.5689, 43.888888888888886, 0}},
                                  {"a b c", "a b c", {100, 100, 100, 100, 100, 100}},
                                  {"猫", "狗", {0, 0, 0, 0, 0, 0}}};

TEST(TextScores, RowsAreThoseOfTheReferences) {
  for (const Pair& pair : kPairs) {
    const ScoredText row = score_text(words(), pair.prediction, pair.reference);
    for (size_t i = 0; i < kTextScores; ++i)
      EXPECT_NEAR(row.scores[i], pair.scores[i], 1e-9)
          << kTextScoreNames[i] << " " << pair.reference;
  }
}

TEST(TextScores, SentenceEndsThatLeaveAnEmptyWord) {
  const auto check = [](const char* prediction, const char* reference, RougeScores wanted) {
    const RougeScores scores = rouge_scores(prediction, reference);
    EXPECT_NEAR(scores.rouge_1, wanted.rouge_1, 1e-9) << prediction;
    EXPECT_NEAR(scores.rouge_2, wanted.rouge_2, 1e-9) << prediction;
    EXPECT_NEAR(scores.rouge_l, wanted.rouge_l, 1e-9) << prediction;
  };
  check("a ...... b", "a b", {79.99999952, 0, 79.99999952});
  check("好 。 \n \n 。", "好 。", {79.99999952, 39.99999968, 57.14285673469389});
  check("a......b 。” c", "a b c", {57.14285665306124, 0, 57.14285665306124});
  check("a \n \n b", "a b", {79.99999952, 0, 79.99999952});
}

TEST(TextScores, SpacesAroundDoNotCountForAnExactMatch) {
  const size_t exact = kTextScores - 1;
  EXPECT_EQ(score_text(words(), "\u3000答案\n", "答案").scores[exact], 100);
  EXPECT_EQ(score_text(words(), "答 案", "答案").scores[exact], 0);
  // What is nothing but spaces is scored as "-", for rouge_chinese has no score for it.
  EXPECT_EQ(score_text(words(), " \n\u3000", "-答案").scores,
            score_text(words(), "", "-答案").scores);
  EXPECT_GT(score_text(words(), "", "-答案").scores[0], 0);
}

TEST(TextScores, ABlankReferenceHasNoScore) {
  expect_score_error([] { score_text(words(), "答案", " \n"); }, ErrorKind::kData, "blank");
  expect_score_error([] { rouge_scores("a", " "); }, ErrorKind::kData, "reference");
  expect_score_error([] { rouge_scores("", "a"); }, ErrorKind::kData, "prediction");
}

TEST(TextScores, MeansAndTheirStandardErrors) {
  ScoreSummary summary;
  EXPECT_EQ(summary.means(), TextScores{});
  for (const Pair& pair : kPairs) summary.add(score_text(words(), pair.prediction, pair.reference));
  EXPECT_EQ(summary.rows(), 6);
  EXPECT_NEAR(summary.means()[0], (50.0 + 73.6842 + 100 + 100) / 6, 1e-9);
  EXPECT_NEAR(summary.corpus_chrf(), 35.87045809707689, 1e-9);  // not the mean of the rows
  const TextScores errors = summary.standard_errors();
  double squares = 0;
  for (const Pair& pair : kPairs) squares += std::pow(pair.scores[0] - summary.means()[0], 2);
  EXPECT_NEAR(errors[0], std::sqrt(squares / 5 / 6), 1e-9);
}

}  // namespace
}  // namespace llama2zh
