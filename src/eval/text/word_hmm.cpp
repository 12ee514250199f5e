// Viterbi's algorithm as in jieba/finalseg/__init__.py (0.42.1): sums in the same order, and of two
// equal ones that of the state whose letter comes later, so that words are the same to the last tie.
#include "eval/text/word_hmm.h"

#include <algorithm>
#include <string>

#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr double kImpossible = -3.14e100;    // jieba's MIN_FLOAT
enum HmmState : uint8_t { kB, kE, kM, kS };  // in the order of their letters
constexpr std::array<const char*, 4> kStateNames = {"B", "E", "M", "S"};
// The two states that can be before each; of equals the second counts.
constexpr std::array<std::array<uint8_t, 2>, 4> kBefore = {
    {{kE, kS}, {kB, kM}, {kB, kM}, {kE, kS}}};

// A Python source "P={...}" of texts, numbers and nested tables, which JSON writes with other quotes.
json read_table(std::string_view source, std::string_view name) {
  const size_t begin = source.find('{'), end = source.rfind('}');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin)
    fail_format(name, "expected a table P={...}");
  std::string text(source.substr(begin, end - begin + 1));
  std::replace(text.begin(), text.end(), '\'', '"');
  return parse_json(text, name);
}

}  // namespace

WordHmm::WordHmm(std::string_view start, std::string_view trans, std::string_view emit)
    : emit_(kLastWordHan - kFirstWordHan + 1) {
  const json starts = read_table(start, "prob_start.py");
  const json transitions = read_table(trans, "prob_trans.py");
  const json emissions = read_table(emit, "prob_emit.py");
  for (Row& row : emit_) row.fill(kImpossible);
  for (size_t state = 0; state < kStates; ++state) {
    const char* name = kStateNames[state];
    if (!starts.contains(name) || !transitions.contains(name) || !emissions.contains(name))
      fail_format("prob_*.py", "the tables have no state " + std::string(name));
    start_[state] = starts[name].get<double>();
    for (size_t to = 0; to < kStates; ++to)
      trans_[state][to] = transitions[name].value(kStateNames[to], kImpossible);
    for (const auto& [key, value] : emissions[name].items()) {
      const std::vector<char32_t> character = utf8_to_codepoints(key);
      if (character.size() == 1 && is_word_han(character[0]))
        emit_[character[0] - kFirstWordHan][state] = value.get<double>();
    }
  }
}

std::vector<size_t> WordHmm::cut(std::u32string_view text) const {
  std::vector<std::array<uint8_t, kStates>> came_from(text.size());
  Row best;
  for (size_t state = 0; state < kStates; ++state)
    best[state] = start_[state] + emission(text[0])[state];
  for (size_t t = 1; t < text.size(); ++t) {
    Row next;
    for (size_t state = 0; state < kStates; ++state) {
      const double emitted = emission(text[t])[state];
      const auto [first, second] = kBefore[state];
      const double of_first = best[first] + trans_[first][state] + emitted;
      const double of_second = best[second] + trans_[second][state] + emitted;
      came_from[t][state] = of_second >= of_first ? second : first;
      next[state] = std::max(of_first, of_second);
    }
    best = next;
  }
  // A word ends where its state is E or S, and the last one at the end.
  std::vector<size_t> lengths;
  size_t end = text.size();
  uint8_t state = best[kS] >= best[kE] ? kS : kE;
  for (size_t t = text.size(); t-- > 0; state = came_from[t][state]) {
    if ((state == kE || state == kS) && t + 1 < end) {
      lengths.push_back(end - t - 1);
      end = t + 1;
    }
  }
  lengths.push_back(end);
  std::reverse(lengths.begin(), lengths.end());
  return lengths;
}

}  // namespace llama2zh
