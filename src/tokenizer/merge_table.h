#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/byte_level_file.h"

namespace llama2zh {

// The merges of a BPE, and what they make of a word. Const methods are thread-safe.
class MergeTable {
 public:
  // kFormat naming `where` if a pair is listed twice.
  MergeTable(const std::vector<ByteLevelFile::Merge>& merges,
             const std::vector<std::string>& tokens, const std::string& where);

  // Applies the merges to `symbols`, which becomes the result: of all pairs of neighbours the one
  // that is listed first, the leftmost of equals, until none is listed. n log n of the word's length.
  void apply(std::vector<TokenId>& symbols) const;

 private:
  struct Slot {
    uint64_t pair = kNoPair;
    int32_t rank = kNoRank;
    TokenId result = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static constexpr int32_t kNoRank = INT32_MAX;
  static uint64_t pair_of(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  // The slot of the pair, or the free one where it would stand.
  size_t place_of(uint64_t pair) const;
  const Slot& find(TokenId left, TokenId right) const {
    return slots_[place_of(pair_of(left, right))];
  }
  void apply_short(std::vector<TokenId>& symbols) const;
  void apply_long(std::vector<TokenId>& symbols) const;

  std::vector<Slot> slots_;  // open addressing, at most half full
  int shift_ = 0;
};

}  // namespace llama2zh
