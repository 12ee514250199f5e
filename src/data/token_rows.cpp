// Rows lie end to end in two flat arrays; offsets_ holds where each begins and, last, the end.
#include "llama2zh/data/token_rows.h"

#include <algorithm>
#include <numeric>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

void TokenRows::add(std::span<const TokenId> ids, std::span<const uint8_t> supervised) {
  if (ids.size() != supervised.size()) {
    fail_data("TokenRows::add", cat(ids.size(), " ids but ", supervised.size(), " marks"));
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  supervised_.insert(supervised_.end(), supervised.begin(), supervised.end());
  offsets_.push_back(static_cast<int64_t>(ids_.size()));
}

std::span<const TokenId> TokenRows::ids(int64_t row) const {
  return std::span(ids_).subspan(static_cast<size_t>(begin(row)), length(row));
}

std::span<const uint8_t> TokenRows::supervised(int64_t row) const {
  return std::span(supervised_).subspan(static_cast<size_t>(begin(row)), length(row));
}

int64_t TokenRows::total_supervised() const {
  return std::accumulate(supervised_.begin(), supervised_.end(), int64_t{0});
}

int64_t TokenRows::longest() const {
  int64_t longest = 0;
  for (int64_t row = 0; row < size(); ++row)
    longest = std::max(longest, static_cast<int64_t>(length(row)));
  return longest;
}

void TokenRows::read(int64_t begin, int64_t count, std::vector<TokenId>& ids,
                     std::vector<uint8_t>& supervised) const {
  const auto from = static_cast<std::ptrdiff_t>(begin), to = from + count;
  ids.insert(ids.end(), ids_.begin() + from, ids_.begin() + to);
  supervised.insert(supervised.end(), supervised_.begin() + from, supervised_.begin() + to);
}

int64_t RowSource::row_at(int64_t position) const {
  int64_t low = 0, high = size();  // begin(low) <= position < begin(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (begin(middle) <= position ? low : high) = middle;
  }
  return low;
}

}  // namespace llama2zh
