#pragma once

#include <cstdint>
#include <vector>

#include "llama2zh/data/loader.h"

namespace llama2zh {

// What an epoch consists of: unit u (a block of a micro-batch) holds
// items[unit_starts[u] .. unit_starts[u + 1]): row numbers (SFT) or one block number (pretraining).
struct BatchLoader::EpochPlan {
  int64_t epoch = -1;
  std::vector<int64_t> items;
  std::vector<int64_t> unit_starts = {0};

  int64_t units() const { return static_cast<int64_t>(unit_starts.size()) - 1; }
  void add_unit(const std::vector<int64_t>& unit) {
    items.insert(items.end(), unit.begin(), unit.end());
    unit_starts.push_back(static_cast<int64_t>(items.size()));
  }
  static EpochPlan make(const TokenRows& rows, const LoaderOptions& options, int64_t epoch);
};

// Bins of `capacity`, each with the numbers of the `sizes` it holds. First-fit: each size in turn
// goes into the first bin with room (D. S. Johnson 1973: at most 1.7 times the best number of bins).
std::vector<std::vector<int64_t>> pack_first_fit(const std::vector<int64_t>& sizes,
                                                 int64_t capacity);
// Next-fit: only the last bin is ever looked at, so that the order stays.
std::vector<std::vector<int64_t>> pack_next_fit(const std::vector<int64_t>& sizes,
                                                int64_t capacity);

}  // namespace llama2zh
