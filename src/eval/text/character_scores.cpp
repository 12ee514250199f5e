// BLEU as NLTK 3.10's nltk/translate/bleu_score.py, chrF as sacrebleu 2.6's metrics/chrf.py, both
// over characters with a single reference.
#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>

#include "llama2zh/base/utf8.h"
#include "llama2zh/eval/text_scores.h"

namespace llama2zh {
namespace {

std::u32string characters_of(std::string_view text) {
  const std::vector<char32_t> characters = utf8_to_codepoints(text);
  return {characters.begin(), characters.end()};
}

int64_t ngrams_in(const std::u32string& text, size_t n) {
  return text.size() < n ? 0 : static_cast<int64_t>(text.size() - n + 1);
}

// N-grams of the prediction that the reference has too, each as often as in both.
int64_t matched_ngrams(const std::u32string& prediction, const std::u32string& reference,
                       size_t n) {
  std::unordered_map<std::u32string_view, int64_t> left;
  const std::u32string_view wanted = reference, predicted = prediction;
  for (size_t i = 0; i + n <= wanted.size(); ++i) ++left[wanted.substr(i, n)];
  int64_t matched = 0;
  for (size_t i = 0; i + n <= predicted.size(); ++i) {
    const auto found = left.find(predicted.substr(i, n));
    if (found != left.end() && found->second-- > 0) ++matched;
  }
  return matched;
}

double brevity_penalty(size_t predicted, size_t wanted) {
  if (predicted > wanted) return 1;
  return std::exp(1 - static_cast<double>(wanted) / static_cast<double>(predicted));
}

}  // namespace

double bleu_4(std::string_view prediction, std::string_view reference) {
  constexpr size_t kOrder = 4;
  const std::u32string predicted = characters_of(prediction), wanted = characters_of(reference);
  double log_precision = 0;
  double zeros = 1;  // 2 to the number of orders without a match
  for (size_t n = 1; n <= kOrder; ++n) {
    const int64_t matched = matched_ngrams(predicted, wanted, n);
    if (n == 1 && matched == 0) return 0;
    const auto count = static_cast<double>(std::max<int64_t>(ngrams_in(predicted, n), 1));
    if (matched == 0) zeros *= 2;
    const double precision =
        matched == 0 ? 1 / (zeros * count) : static_cast<double>(matched) / count;
    log_precision += std::log(precision) / kOrder;
  }
  return 100 * brevity_penalty(predicted.size(), wanted.size()) * std::exp(log_precision);
}

ChrfCounts& ChrfCounts::operator+=(const ChrfCounts& other) {
  for (size_t n = 0; n < kOrders; ++n) {
    prediction[n] += other.prediction[n];
    reference[n] += other.reference[n];
    matched[n] += other.matched[n];
  }
  return *this;
}

ChrfCounts chrf_counts(std::string_view prediction, std::string_view reference) {
  std::u32string predicted = characters_of(prediction), wanted = characters_of(reference);
  std::erase_if(predicted, is_python_space);
  std::erase_if(wanted, is_python_space);
  ChrfCounts counts;
  for (size_t n = 1; n <= ChrfCounts::kOrders; ++n) {
    counts.reference[n - 1] = ngrams_in(wanted, n);
    // A reference too short for the order says nothing about it.
    counts.prediction[n - 1] = counts.reference[n - 1] == 0 ? 0 : ngrams_in(predicted, n);
    counts.matched[n - 1] = matched_ngrams(predicted, wanted, n);
  }
  return counts;
}

double chrf(const ChrfCounts& counts) {
  constexpr double kFactor = 4;  // beta squared: recall counts twice as much as precision
  double precision = 0, recall = 0;
  int orders = 0;
  for (size_t n = 0; n < ChrfCounts::kOrders; ++n) {
    if (counts.prediction[n] == 0 || counts.reference[n] == 0) continue;
    const auto matched = static_cast<double>(counts.matched[n]);
    precision += matched / static_cast<double>(counts.prediction[n]);
    recall += matched / static_cast<double>(counts.reference[n]);
    ++orders;
  }
  if (orders == 0 || precision + recall == 0) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * ((1 + kFactor) * precision * recall / (kFactor * precision + recall));
}

}  // namespace llama2zh
