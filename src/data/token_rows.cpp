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
  offsets_.push_back(total_tokens());
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

TokenRows TokenRows::take(std::span<const int64_t> sorted_rows) {
  TokenRows taken;
  for (const int64_t row : sorted_rows) taken.add(ids(row), supervised(row));
  // The rows that stay move down over the gaps; reading is always ahead of writing.
  size_t next_taken = 0, kept_tokens = 0, kept_rows = 0;
  for (int64_t row = 0, rows = size(); row < rows; ++row) {
    if (next_taken < sorted_rows.size() && sorted_rows[next_taken] == row) {
      ++next_taken;
      continue;
    }
    const auto from = static_cast<std::ptrdiff_t>(begin(row));
    const auto to = static_cast<std::ptrdiff_t>(kept_tokens);
    const auto count = static_cast<std::ptrdiff_t>(length(row));
    std::copy_n(ids_.begin() + from, count, ids_.begin() + to);
    std::copy_n(supervised_.begin() + from, count, supervised_.begin() + to);
    kept_tokens += static_cast<size_t>(count);
    offsets_[++kept_rows] = static_cast<int64_t>(kept_tokens);
  }
  ids_.resize(kept_tokens);
  supervised_.resize(kept_tokens);
  offsets_.resize(kept_rows + 1);
  return taken;
}

}  // namespace llama2zh
