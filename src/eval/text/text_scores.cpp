// One row's scores together, and the sums of many.
#include "llama2zh/eval/text_scores.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

// Python's round(value, 4): the decimal nearest to the exact value, ties to even, which no
// multiplication by 10000 gives.
double round_4(double value) {
  std::array<char, 64> text;
  const auto written = std::to_chars(text.begin(), text.end(), value, std::chars_format::fixed, 4);
  std::from_chars(text.data(), written.ptr, value);
  return value;
}

std::string_view stripped(std::string_view text) {
  const std::vector<char32_t> characters = utf8_to_codepoints(text);
  const auto bytes = [](char32_t c) { return c < 0x80 ? 1u : c < 0x800 ? 2u : 3u; };  // of spaces
  for (const char32_t c : characters) {
    if (!is_python_space(c)) break;
    text.remove_prefix(bytes(c));
  }
  for (size_t i = characters.size(); !text.empty() && is_python_space(characters[i - 1]); --i)
    text.remove_suffix(bytes(characters[i - 1]));
  return text;
}

}  // namespace

bool is_blank_text(std::string_view text) { return stripped(text).empty(); }

std::string joined_words(const WordSegmenter& segmenter, std::string_view text) {
  std::string joined;
  for (const std::string_view word : segmenter.cut(text)) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

ScoredText score_text(const WordSegmenter& segmenter, std::string_view prediction,
                      std::string_view reference) {
  if (is_blank_text(reference)) fail_data("reference", "it is blank: no score is defined for it");
  const std::string predicted =
      is_blank_text(prediction) ? "-" : joined_words(segmenter, prediction);
  const RougeScores rouge = rouge_scores(predicted, joined_words(segmenter, reference));
  ScoredText row;
  row.chrf_counts = chrf_counts(prediction, reference);
  row.scores = {round_4(rouge.rouge_1), round_4(rouge.rouge_2),
                round_4(rouge.rouge_l), round_4(bleu_4(prediction, reference)),
                chrf(row.chrf_counts),  stripped(prediction) == stripped(reference) ? 100.0 : 0.0};
  return row;
}

void ScoreSummary::add(const ScoredText& row) {
  ++rows_;
  chrf_counts_ += row.chrf_counts;
  for (size_t i = 0; i < kTextScores; ++i) {
    sums_[i] += row.scores[i];
    squares_[i] += row.scores[i] * row.scores[i];
  }
}

TextScores ScoreSummary::means() const {
  TextScores means{};
  for (size_t i = 0; rows_ > 0 && i < kTextScores; ++i)
    means[i] = sums_[i] / static_cast<double>(rows_);
  return means;
}

TextScores ScoreSummary::standard_errors() const {
  TextScores errors{};
  const auto n = static_cast<double>(rows_);
  for (size_t i = 0; rows_ > 1 && i < kTextScores; ++i) {
    const double variance = (squares_[i] - sums_[i] * sums_[i] / n) / (n - 1);
    errors[i] = std::sqrt(std::max(variance, 0.0) / n);
  }
  return errors;
}

}  // namespace llama2zh
