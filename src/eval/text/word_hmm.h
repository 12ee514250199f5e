#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

namespace llama2zh {

// The characters that jieba's dictionary and model are about: U+4E00 to U+9FD5.
constexpr char32_t kFirstWordHan = 0x4E00;
constexpr char32_t kLastWordHan = 0x9FD5;
constexpr bool is_word_han(char32_t c) { return c >= kFirstWordHan && c <= kLastWordHan; }

// jieba's hidden Markov model of words that the dictionary lacks: each character is the Beginning, the
// Middle or the End of a word or a Single word.
class WordHmm {
 public:
  // Of finalseg's prob_start.py, prob_trans.py and prob_emit.py. kFormat if they are something else.
  WordHmm(std::string_view start, std::string_view trans, std::string_view emit);
  // Lengths of the words of `text`, which holds characters of is_word_han() only.
  std::vector<size_t> cut(std::u32string_view text) const;

 private:
  static constexpr size_t kStates = 4;
  using Row = std::array<double, kStates>;
  const Row& emission(char32_t c) const { return emit_[c - kFirstWordHan]; }

  Row start_;
  std::array<Row, kStates> trans_;  // [from][to]
  std::vector<Row> emit_;           // by character
};

}  // namespace llama2zh
