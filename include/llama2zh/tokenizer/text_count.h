#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// What a text is written in. English stands for the Latin script: French counts there too.
enum class Language { kChinese, kEnglish, kOther };
inline constexpr std::array<std::string_view, 3> kLanguageNames = {"zh", "en", "other"};

enum class Script { kHan, kLatin, kKanaOrHangul, kOther, kNeutral };
Script script_of(char32_t codepoint);

// Letters by script; digits, punctuation, spaces and symbols are neutral.
struct LetterCounts {
  int64_t han = 0, latin = 0, other = 0, neutral = 0;
  int64_t kana_hangul = 0;  // of `other`
  void operator+=(const LetterCounts& more);
};
LetterCounts count_letters(std::string_view text);  // valid UTF-8
// Of a line, paragraph or row: the script with the most letters, where a Han character, a kana or a
// hangul syllable counts as three letters of an alphabet. Han with at least a tenth of kana or hangul
// beside it is other. A text without letters is other.
Language language_of(const LetterCounts& letters);

struct TokenCount {
  int64_t lines = 0, characters = 0, bytes = 0, tokens = 0;
  int64_t byte_tokens = 0;  // that hold part of a character, or are sentencepiece's <0x..>
  void operator+=(const TokenCount& more);
  double characters_per_token() const;  // 0 without tokens, as below
  double byte_rate() const;             // byte_tokens / tokens
};

// Counts what texts cost in one tokenizer, and which of its ids they use. Not thread-safe.
class TokenCounter {
 public:
  // `tokenizer` must outlive the counter.
  explicit TokenCounter(const Tokenizer& tokenizer);
  // A line, encoded as the beginning of a text. kData if it is not UTF-8.
  TokenCount count(std::string_view line);
  const std::vector<TokenId>& ids() const { return ids_; }    // of the line counted last
  const std::vector<int64_t>& uses() const { return uses_; }  // of every id, so far

 private:
  const Tokenizer* tokenizer_;
  std::vector<bool> is_byte_;
  std::vector<TokenId> ids_;
  std::vector<int64_t> uses_;
};

}  // namespace llama2zh
