#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/eval/word_segmenter.h"

namespace llama2zh {

// All scores go from 0 to 100; texts must be valid UTF-8.

struct RougeScores {
  double rouge_1 = 0, rouge_2 = 0, rouge_l = 0;  // F1
};
// rouge_chinese 1.0.3 on words with a space between each two. kData if `prediction` or `reference`
// has no word.
RougeScores rouge_scores(std::string_view prediction, std::string_view reference);

// NLTK's sentence_bleu over characters, up to 4-grams of equal weight, smoothing method3.
double bleu_4(std::string_view prediction, std::string_view reference);

// What chrF counts, for the n-grams of 1 to 6 characters; counts of rows add up to those of a corpus.
struct ChrfCounts {
  static constexpr size_t kOrders = 6;
  std::array<int64_t, kOrders> prediction{}, reference{}, matched{};
  ChrfCounts& operator+=(const ChrfCounts& other);
};
ChrfCounts chrf_counts(std::string_view prediction, std::string_view reference);
// sacrebleu's chrF2 (nc:6, nw:0, without spaces, effective order).
double chrf(const ChrfCounts& counts);

// The scores of one row or the means of many, in this order.
constexpr size_t kTextScores = 6;
constexpr std::array<const char*, kTextScores> kTextScoreNames = {
    "rouge-1", "rouge-2", "rouge-l", "bleu-4", "chrf", "exact_match"};
using TextScores = std::array<double, kTextScores>;

struct ScoredText {
  TextScores scores{};
  ChrfCounts chrf_counts;
};

// The words with a space between each two, as rouge_scores() takes them.
std::string joined_words(const WordSegmenter& segmenter, std::string_view text);

// The original's metrics: ROUGE over jieba's words (a prediction without any counts as "-") and BLEU
// over characters, both rounded to 4 places; besides chrF, and whether the texts are the same but
// for spaces around them. kData if `reference` is blank.
ScoredText score_text(const WordSegmenter& segmenter, std::string_view prediction,
                      std::string_view reference);

// Scores of rows added up.
class ScoreSummary {
 public:
  void add(const ScoredText& row);
  int64_t rows() const { return rows_; }
  TextScores means() const;            // 0 of no rows
  TextScores standard_errors() const;  // of the means; 0 of less than two rows
  // chrF of all rows as one corpus, which is what sacrebleu reports.
  double corpus_chrf() const { return chrf(chrf_counts_); }

 private:
  int64_t rows_ = 0;
  TextScores sums_{}, squares_{};
  ChrfCounts chrf_counts_;
};

// Nothing but what Python takes for spaces.
bool is_blank_text(std::string_view text);

}  // namespace llama2zh
