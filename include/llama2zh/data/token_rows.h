#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama2zh/data/row_source.h"

namespace llama2zh {

// Rows in memory, 5 bytes a token.
class TokenRows : public RowSource {
 public:
  void add(std::span<const TokenId> ids, std::span<const uint8_t> supervised);
  int64_t size() const override { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t begin(int64_t row) const override { return offsets_[static_cast<size_t>(row)]; }
  int64_t total_supervised() const override;
  int64_t longest() const override;
  void read(int64_t begin, int64_t count, std::vector<TokenId>& ids,
            std::vector<uint8_t>& supervised) const override;
  std::span<const TokenId> ids(int64_t row) const;
  std::span<const uint8_t> supervised(int64_t row) const;
  // All rows end to end.
  std::span<const TokenId> all_ids() const { return ids_; }
  std::span<const uint8_t> all_supervised() const { return supervised_; }

 private:
  std::vector<TokenId> ids_;
  std::vector<uint8_t> supervised_;
  std::vector<int64_t> offsets_ = {0};
};

// What reading the files came to; printed in the plan. A row is read (rows), not readable (bad), or
// left out on purpose (dropped: blank texts, and dialogues too long for the rule `overlong`;
// filtered: by min_characters or max_characters; duplicates: seen before, with deduplicate).
struct RowCounts {
  int64_t rows = 0;      // kept
  int64_t bad = 0;       // skipped because of skip_bad_rows
  int64_t overlong = 0;  // longer than block_size: cut or dropped
  int64_t dropped = 0;   // of them and of blank texts: not kept
  int64_t filtered = 0, duplicates = 0;
  int64_t characters = 0;  // code points in the texts of the kept rows
  std::string first_bad;   // "file:line:column: reason"
};

}  // namespace llama2zh
