#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "data/row_encoder.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "llama2zh/tokenizer/text_count.h"

namespace llama2zh {

// Hashes of what a text is compared by: each Han character, kana and hangul syllable alone, and each
// run of other letters and digits in small letters. Spaces and punctuation are left out, full-width
// forms are the plain ones.
std::vector<uint64_t> text_units(std::string_view text);
// Of every `n` units that follow one another; none if there are fewer.
std::vector<uint64_t> gram_hashes(const std::vector<uint64_t>& units, size_t n);

// The n-grams of the test rows, each once: 8 bytes each and 16 bits of a filter before the search.
class GramIndex {
 public:
  GramIndex() = default;
  explicit GramIndex(std::vector<uint64_t> grams);
  int64_t find(uint64_t gram) const;  // its number in [0, size()); -1: not there
  size_t size() const { return grams_.size(); }

 private:
  std::vector<uint64_t> grams_;  // sorted
  std::vector<bool> filter_;
};

// What a report wants to know of a row beyond its ids.
struct RowFacts {
  int64_t line = 0;  // 0: the row is a whole file
  bool understood =
      false;          // the row has a known form; what is wrong with it then is the template's
  uint64_t hash = 0;  // of its units and roles
  LetterCounts letters;
  std::array<int64_t, 4> messages{};  // by role
  int64_t grams = 0;
  std::vector<uint64_t> gram_hashes;   // of test rows
  std::vector<int64_t> grams_in_test;  // of training rows: numbers in the index
};

// Encodes rows as training does and notes their facts. With an index, n-grams are looked up there;
// without one, they are kept.
class FactsEncoder : public RowEncoder {
 public:
  FactsEncoder(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer, size_t gram_size,
               const GramIndex* index);
  TextOptions text_options() const override { return encoder_->text_options(); }
  EncodedRow encode(RawRow& raw, const std::string& file) const override;
  // Of a row that only its text is left of.
  std::shared_ptr<const RowFacts> facts_of_text(std::string_view text, int64_t line) const;

 private:
  void note_row(RawRow& raw, const std::string& file, RowFacts& facts) const;
  void note_message(const Message& message, RowFacts& facts, std::vector<uint64_t>& hashes) const;
  void note_text(std::string_view text, RowFacts& facts, std::vector<uint64_t>& hashes) const;

  std::unique_ptr<RowEncoder> encoder_;
  DataConfig config_;
  RowKind kind_;
  size_t gram_size_;
  const GramIndex* index_;
};

}  // namespace llama2zh
