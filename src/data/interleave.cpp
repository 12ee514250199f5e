// Nothing is stored: the place of an item is counted (how many of each other source stand before
// it, at equal fractions those of earlier sources), and the item of a place is found by bisection,
// since an item's place grows with its number.
#include "data/interleave.h"

#include <numeric>

namespace llama2zh {
namespace {

using Wide = unsigned __int128;

}  // namespace

Interleaving::Interleaving(std::vector<int64_t> counts)
    : counts_(std::move(counts)),
      size_(std::accumulate(counts_.begin(), counts_.end(), int64_t{0})) {}

int64_t Interleaving::rank(size_t source, int64_t item) const {
  int64_t before = item;
  for (size_t other = 0; other < counts_.size(); ++other) {
    if (other == source || counts_[other] == 0) continue;
    // Items i of `other` with (2 i + 1) / counts[other] < (2 item + 1) / counts[source].
    const Wide scaled = static_cast<Wide>(2 * item + 1) * static_cast<Wide>(counts_[other]);
    const Wide bound = other < source ? scaled : scaled - 1;
    const auto odd_numbers_up_to = static_cast<int64_t>(bound / static_cast<Wide>(counts_[source]));
    before += (odd_numbers_up_to + 1) / 2;
  }
  return before;
}

Interleaving::Slot Interleaving::at(int64_t position) const {
  if (counts_.size() == 1) return {0, position};
  for (size_t source = 0; source < counts_.size(); ++source) {
    int64_t low = 0,
            high = counts_[source];  // the last item with a place <= position is in [low, high)
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (rank(source, middle) <= position ? low : high) = middle;
    }
    if (counts_[source] > 0 && rank(source, low) == position) return {source, low};
  }
  return {};  // not reached: the ranks are a permutation
}

}  // namespace llama2zh
