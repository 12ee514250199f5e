#pragma once

#include <cstdint>
#include <vector>

#include "data/unit_order.h"
#include "llama2zh/data/loader.h"

namespace llama2zh {

// One pass over one source: unit u (a block of a micro-batch) holds one block of the rows laid end
// to end (pretraining), one row (SFT without packing) or several rows (SFT with packing). The number
// of units is the same in every epoch.
class EpochPlan {
 public:
  EpochPlan(const RowSource& rows, const LoaderOptions& options, uint64_t seed, int64_t epoch);
  int64_t epoch() const { return epoch_; }
  int64_t units() const { return units_; }
  // Calls `use` with each row number, or with the block's number.
  template <typename Use>
  void for_each_item(int64_t unit, const Use& use) const {
    if (unit_starts_.empty()) return use(order_[unit]);
    for (auto i = unit_starts_[static_cast<size_t>(unit)];
         i < unit_starts_[static_cast<size_t>(unit) + 1]; ++i)
      use(items_[static_cast<size_t>(i)]);
  }

 private:
  void pack(const RowSource& rows, const LoaderOptions& options, uint64_t seed);
  int64_t epoch_, units_ = 0;
  UnitOrder order_;
  std::vector<int64_t> items_, unit_starts_;  // with packing
};

// Bins of `capacity`, each with the numbers of the `sizes` it holds. Best-fit decreasing: the sizes
// from the largest on, equal ones in their order, each into the fullest bin with room for it (D. S.
// Johnson 1973: at most 11/9 of the best number of bins). How many bins there are and how full does
// not depend on the order of the sizes.
std::vector<std::vector<int64_t>> pack_best_fit(const std::vector<int64_t>& sizes,
                                                int64_t capacity);
// Next-fit: only the last bin is ever looked at, so that the order stays.
std::vector<std::vector<int64_t>> pack_next_fit(const std::vector<int64_t>& sizes,
                                                int64_t capacity);

}  // namespace llama2zh
