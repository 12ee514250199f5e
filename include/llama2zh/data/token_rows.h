#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// Tokenised rows: ids and, for each, whether the loss counts it as a target. 5 bytes a token in
// memory. Const methods are thread-safe.
class TokenRows {
 public:
  void add(std::span<const TokenId> ids, std::span<const uint8_t> supervised);
  int64_t size() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  std::span<const TokenId> ids(int64_t row) const;
  std::span<const uint8_t> supervised(int64_t row) const;
  size_t length(int64_t row) const { return static_cast<size_t>(begin(row + 1) - begin(row)); }
  // Where the row begins in all_ids(); begin(size()) is the end.
  int64_t begin(int64_t row) const { return offsets_[static_cast<size_t>(row)]; }
  // All rows end to end.
  std::span<const TokenId> all_ids() const { return ids_; }
  std::span<const uint8_t> all_supervised() const { return supervised_; }
  int64_t total_tokens() const { return static_cast<int64_t>(ids_.size()); }
  int64_t total_supervised() const;

  // Moves the rows with these ascending, distinct numbers out of here, in their order; the others
  // close ranks.
  TokenRows take(std::span<const int64_t> sorted_rows);

 private:
  std::vector<TokenId> ids_;
  std::vector<uint8_t> supervised_;
  std::vector<int64_t> offsets_ = {0};
};

// What reading the files came to; printed in the plan. A row is read (rows), not readable (bad), or
// left out on purpose (dropped: blank texts, and dialogues too long for the rule `overlong`).
struct RowCounts {
  int64_t rows = 0;        // kept
  int64_t bad = 0;         // skipped because of skip_bad_rows
  int64_t overlong = 0;    // longer than block_size: cut or dropped
  int64_t dropped = 0;     // of them and of blank texts: not kept
  int64_t characters = 0;  // code points in the texts of the kept rows
  std::string first_bad;   // "file:line:column: reason"
};

}  // namespace llama2zh
