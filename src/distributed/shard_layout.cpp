#include "llama2zh/distributed/shard_layout.h"

#include <algorithm>
#include <utility>

namespace llama2zh {
namespace {

int64_t shard_aligned(int64_t count) {
  return (count + ShardLayout::kAlign - 1) / ShardLayout::kAlign * ShardLayout::kAlign;
}

}  // namespace

ShardLayout::ShardLayout(std::vector<int64_t> elements, int64_t ranks)
    : elements_(std::move(elements)), ranks_(ranks) {
  int64_t end = 0;
  for (const int64_t count : elements_) {
    offsets_.push_back(end);
    end += shard_aligned(count);
  }
  shard_elements_ = std::max(kAlign, shard_aligned((end + ranks - 1) / ranks));
}

std::vector<ShardPiece> ShardLayout::pieces(int64_t begin, int64_t end) const {
  std::vector<ShardPiece> result;
  for (size_t i = 0; i < elements_.size(); ++i) {
    const int64_t first = std::max(begin, offsets_[i]);
    const int64_t last = std::min(end, offsets_[i] + elements_[i]);
    if (first < last) result.push_back({i, first - offsets_[i], last - first, first});
  }
  return result;
}

std::vector<ShardPiece> ShardLayout::shard(int64_t rank) const {
  return pieces(rank * shard_elements_, (rank + 1) * shard_elements_);
}

}  // namespace llama2zh
