// Positions are found by the sources' first rows and tokens.
#include "data/joined_rows.h"

#include <algorithm>

namespace llama2zh {
namespace {

class JoinedRows : public RowSource {
 public:
  explicit JoinedRows(std::vector<std::shared_ptr<const RowSource>> sources)
      : sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      first_rows_.push_back(first_rows_.back() + source->size());
      first_tokens_.push_back(first_tokens_.back() + source->total_tokens());
    }
  }
  int64_t size() const override { return first_rows_.back(); }
  int64_t begin(int64_t row) const override {
    if (row >= size()) return first_tokens_.back();
    const size_t at = part(first_rows_, row);
    return first_tokens_[at] + sources_[at]->begin(row - first_rows_[at]);
  }
  int64_t total_supervised() const override {
    int64_t sum = 0;
    for (const auto& source : sources_) sum += source->total_supervised();
    return sum;
  }
  int64_t longest() const override {
    int64_t longest = 0;
    for (const auto& source : sources_) longest = std::max(longest, source->longest());
    return longest;
  }
  void read(int64_t begin, int64_t count, std::vector<TokenId>& ids,
            std::vector<uint8_t>& supervised) const override {
    while (count > 0) {
      const size_t at = part(first_tokens_, begin);
      const int64_t here = std::min(count, first_tokens_[at + 1] - begin);
      sources_[at]->read(begin - first_tokens_[at], here, ids, supervised);
      begin += here;
      count -= here;
    }
  }

 private:
  // The source that holds `position`: the last that begins at or before it.
  static size_t part(const std::vector<int64_t>& firsts, int64_t position) {
    return static_cast<size_t>(std::upper_bound(firsts.begin(), firsts.end(), position) -
                               firsts.begin()) -
           1;
  }

  std::vector<std::shared_ptr<const RowSource>> sources_;
  std::vector<int64_t> first_rows_ = {0}, first_tokens_ = {0};  // and the ends
};

}  // namespace

std::shared_ptr<const RowSource> join_rows(std::vector<std::shared_ptr<const RowSource>> sources) {
  if (sources.size() == 1) return sources[0];
  return std::make_shared<JoinedRows>(std::move(sources));
}

}  // namespace llama2zh
