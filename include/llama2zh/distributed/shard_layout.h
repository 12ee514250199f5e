#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llama2zh {

// A part of one parameter: `count` elements from its element `begin` on, which lie at `offset` of the
// flat sequence.
struct ShardPiece {
  size_t parameter = 0;
  int64_t begin = 0, count = 0, offset = 0;
};

// How parameters are divided among ranks: laid end to end as one flat sequence, of which rank r owns
// the r-th of equal parts, so that a parameter may belong to several. Every parameter and every part
// begins at a multiple of kAlign, gaps belong to none; the sequence is filled up to
// ranks * shard_elements().
class ShardLayout {
 public:
  static constexpr int64_t kAlign = 256;  // elements; a block of 8-bit moments
  ShardLayout(std::vector<int64_t> elements, int64_t ranks);

  int64_t ranks() const { return ranks_; }
  int64_t shard_elements() const { return shard_elements_; }
  int64_t flat_elements() const { return ranks_ * shard_elements_; }
  int64_t elements(size_t parameter) const { return elements_[parameter]; }
  int64_t offset(size_t parameter) const { return offsets_[parameter]; }
  // What lies in [begin, end) of the flat sequence, in its order; at most one piece a parameter.
  std::vector<ShardPiece> pieces(int64_t begin, int64_t end) const;
  std::vector<ShardPiece> shard(int64_t rank) const;

 private:
  std::vector<int64_t> elements_, offsets_;
  int64_t ranks_ = 1, shard_elements_ = 0;
};

}  // namespace llama2zh
