#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama2zh/tokenizer/text_count.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

using CountsByLanguage = std::array<TokenCount, kLanguageNames.size()>;

// How a tokenizer encodes lines otherwise than the first one does: as other pieces.
struct ChangedEncodings {
  std::array<int64_t, kLanguageNames.size()> lines{}, changed{};  // by language
  // Pieces that the first tokenizer lacks and that stand in lines in Latin script, with how often,
  // the most frequent first.
  std::vector<std::pair<std::string, int64_t>> new_in_english;
  // Pieces of the first tokenizer that it produces of their own text and this one, which has them
  // too, does not.
  std::vector<std::string> displaced;
};

struct TokenizerMeasure {
  std::vector<CountsByLanguage> domains;  // in the order of begin_domain()
  std::vector<int64_t> coverage;          // of character_tables(), in their order
  int64_t text_pieces = 0;                // that are neither special nor bytes
  std::vector<std::string> unreachable;   // text pieces that their own text does not encode to
  std::vector<std::string> dead;          // text pieces that no line used, unreachable ones too
  ChangedEncodings changed;               // against the first tokenizer
  TokenCount total() const;
  TokenCount total(Language language) const;
};

// Encodes the same lines with several tokenizers. A line counts for the language of its own letters.
class TokenizerComparison {
 public:
  // The tokenizers must outlive the comparison.
  explicit TokenizerComparison(std::vector<const Tokenizer*> tokenizers);
  void begin_domain();
  void add_line(std::string_view line);          // of the domain begun last; kData if not UTF-8
  std::vector<TokenizerMeasure> finish() const;  // one a tokenizer

 private:
  void compare_with_first(size_t index, Language language);

  std::vector<const Tokenizer*> tokenizers_;
  std::vector<TokenCounter> counters_;
  std::vector<TokenizerMeasure> measures_;
  std::vector<std::vector<TokenId>> ids_in_first_;  // of each tokenizer's ids; -1: none
  std::vector<std::vector<int64_t>> english_uses_;  // of each tokenizer's ids
};

}  // namespace llama2zh
