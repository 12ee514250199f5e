#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace llama2zh {

// Columns (or blocks of them) of several products with one input, as one stretch of work: threads
// meet once for all of them. step(which, begin, end) on columns [begin, end) of product `which`.
template <typename Step>
void for_joined_columns(const std::vector<int64_t>& counts, int64_t at_once, const Step& step) {
  int64_t all = 0;
  for (const int64_t count : counts) all += count;
  at::parallel_for(0, all, at_once, [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      const int64_t from = std::max(begin, first), to = std::min(end, first + counts[i]);
      if (from < to) step(i, from - first, to - first);
      first += counts[i];
    }
  });
}

}  // namespace llama2zh
