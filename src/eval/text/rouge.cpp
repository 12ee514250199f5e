// rouge_chinese 1.0.3: the text is cut into sentences, only to be laid end to end again (what stays
// of it: a sentence of nothing but spaces leaves an empty word), n-grams count once each, and
// ROUGE-L is the longest common subsequence of the whole texts.
#include <algorithm>
#include <iterator>
#include <string>
#include <unordered_map>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/eval/text_scores.h"

namespace llama2zh {
namespace {

constexpr double kEpsilon = 1e-8;  // in the denominator of F1, as the reference has it

bool is_one_of(char32_t c, std::u32string_view set) {
  return set.find(c) != std::u32string_view::npos;
}

// re.sub: a line end behind each `head` (of `length` characters) whose next character is not in
// `not_behind`.
template <typename IsHead>
std::u32string break_lines(const std::u32string& text, size_t length, IsHead is_head,
                           std::u32string_view not_behind) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    if (at + length < text.size() && is_head(&text[at]) &&
        !is_one_of(text[at + length], not_behind)) {
      out.append(text, at, length);
      out += U'\n';
      out += text[at + length];
      at += length + 1;
    } else {
      out += text[at++];
    }
  }
  return out;
}

// Rouge.cut_sent()
std::u32string with_sentence_ends(std::u32string text) {
  constexpr std::u32string_view kEnds = U"。！？?", kQuotes = U"”’";
  const auto ends = [&](const char32_t* c) { return is_one_of(*c, kEnds); };
  const auto dots = [](const char32_t* c) { return std::u32string_view(c, 6) == U"......"; };
  const auto ellipsis = [](const char32_t* c) { return std::u32string_view(c, 2) == U"……"; };
  const auto quoted = [&](const char32_t* c) { return ends(c) && is_one_of(c[1], kQuotes); };
  text = break_lines(text, 1, ends, kQuotes);
  text = break_lines(text, 6, dots, kQuotes);
  text = break_lines(text, 2, ellipsis, kQuotes);
  text = break_lines(text, 2, quoted, U"，。！？?");
  while (!text.empty() && is_python_space(text.back())) text.pop_back();
  return text;
}

std::vector<std::u32string> rouge_words(std::string_view joined) {
  const std::vector<char32_t> characters = utf8_to_codepoints(joined);
  const std::u32string text = with_sentence_ends({characters.begin(), characters.end()});
  std::vector<std::u32string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(U'\n', begin), text.size());
    const size_t before = words.size();
    std::u32string word;
    for (size_t at = begin; at <= end; ++at) {
      if (at < end && !is_python_space(text[at])) {
        word += text[at];
      } else if (!word.empty()) {
        words.push_back(std::exchange(word, {}));
      }
    }
    if (end > begin && words.size() == before) words.emplace_back();
    begin = end + 1;
  }
  return words;
}

using WordId = int32_t;

class WordNumbers {
 public:
  std::vector<WordId> of(std::string_view joined) {
    std::vector<WordId> ids;
    for (std::u32string& word : rouge_words(joined))
      ids.push_back(numbers_.try_emplace(std::move(word), static_cast<WordId>(numbers_.size()))
                        .first->second);
    return ids;
  }

 private:
  std::unordered_map<std::u32string, WordId> numbers_;
};

double f1(size_t matched, size_t predicted, size_t wanted) {
  const auto ratio = [](size_t part, size_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  const double precision = ratio(matched, predicted), recall = ratio(matched, wanted);
  return 2.0 * ((precision * recall) / (precision + recall + kEpsilon));
}

// The different n-grams, n = 1 or 2.
std::vector<std::pair<WordId, WordId>> word_ngrams(const std::vector<WordId>& words, size_t n) {
  std::vector<std::pair<WordId, WordId>> ngrams;
  for (size_t i = 0; i + n <= words.size(); ++i)
    ngrams.emplace_back(words[i], n == 2 ? words[i + 1] : 0);
  std::sort(ngrams.begin(), ngrams.end());
  ngrams.erase(std::unique(ngrams.begin(), ngrams.end()), ngrams.end());
  return ngrams;
}

double rouge_n(const std::vector<WordId>& prediction, const std::vector<WordId>& reference,
               size_t n) {
  const auto predicted = word_ngrams(prediction, n), wanted = word_ngrams(reference, n);
  std::vector<std::pair<WordId, WordId>> matched;
  std::set_intersection(predicted.begin(), predicted.end(), wanted.begin(), wanted.end(),
                        std::back_inserter(matched));
  return f1(matched.size(), predicted.size(), wanted.size());
}

size_t longest_common_subsequence(const std::vector<WordId>& a, const std::vector<WordId>& b) {
  std::vector<size_t> row(b.size() + 1, 0);  // [j]: of a's first i and b's first j words
  for (const WordId word : a) {
    size_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

RougeScores rouge_scores(std::string_view prediction, std::string_view reference) {
  WordNumbers numbers;
  const std::vector<WordId> predicted = numbers.of(prediction), wanted = numbers.of(reference);
  if (predicted.empty()) fail_data("rouge", "the prediction has no word");
  if (wanted.empty()) fail_data("rouge", "the reference has no word");
  const size_t common = longest_common_subsequence(predicted, wanted);
  return {100 * rouge_n(predicted, wanted, 1), 100 * rouge_n(predicted, wanted, 2),
          100 * f1(common, predicted.size(), wanted.size())};
}

}  // namespace llama2zh
