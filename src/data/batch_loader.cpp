// Micro-batches as flat sequences with boundaries; labels are shifted here, once, so that nothing
// later needs to know where a row came from.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "data/epoch_plan.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/loader.h"

namespace llama2zh {
namespace {

constexpr int64_t kNoLabel = -100;

// Collects sequences; tensors are made at the end, when T is known.
class BatchBuilder {
 public:
  void add_sequence(std::span<const TokenId> ids, std::span<const uint8_t> supervised) {
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    for (size_t next = 1; next < ids.size(); ++next) {
      labels_.push_back(supervised[next] ? ids[next] : kNoLabel);
      supervised_ += supervised[next] ? 1 : 0;
    }
    if (!ids.empty()) labels_.push_back(kNoLabel);
    boundaries_.push_back(static_cast<int64_t>(ids_.size()));
  }
  // Makes the last sequence longer by `count` tokens without labels.
  void pad(size_t count, int64_t pad_id) {
    ids_.insert(ids_.end(), count, pad_id);
    labels_.insert(labels_.end(), count, kNoLabel);
    boundaries_.back() += static_cast<int64_t>(count);
  }
  void add_row_number(int64_t row) { rows_.push_back(row); }
  PackedBatch finish() {
    return {tensor(ids_), tensor(labels_), std::move(boundaries_), supervised_, std::move(rows_)};
  }

 private:
  static at::Tensor tensor(const std::vector<int64_t>& values) {
    at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
    std::copy(values.begin(), values.end(), out.data_ptr<int64_t>());
    return out;
  }
  std::vector<int64_t> ids_, labels_, boundaries_ = {0}, rows_;
  int64_t supervised_ = 0;
};

// Tokens [begin, end) of the rows laid end to end, as one sequence or cut where rows begin.
void add_block(const TokenRows& rows, int64_t begin, int64_t end, bool cross_documents,
               BatchBuilder& batch) {
  const auto add = [&](int64_t from, int64_t to) {
    const auto at = static_cast<size_t>(from), count = static_cast<size_t>(to - from);
    batch.add_sequence(rows.all_ids().subspan(at, count), rows.all_supervised().subspan(at, count));
  };
  if (cross_documents) return add(begin, end);
  // The first row that begins behind `begin`, by bisection over the rows' starts.
  int64_t low = 0, high = rows.size();
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (rows.begin(middle) > begin)
      high = middle;
    else
      low = middle + 1;
  }
  int64_t from = begin;
  for (int64_t row = low; row < rows.size() && rows.begin(row) < end; ++row) {
    add(from, rows.begin(row));
    from = rows.begin(row);
  }
  add(from, end);
}

}  // namespace

BatchLoader::BatchLoader(const TokenRows& rows, const LoaderOptions& options)
    : rows_(&rows), options_(options) {
  if (options.block_size < 2 || options.micro_batch_size < 1) {
    fail_usage("BatchLoader", cat("block_size ", options.block_size, ", micro_batch_size ",
                                  options.micro_batch_size, ": expected at least 2 and 1"));
  }
  if (options.kind == RowKind::kPretrain) return;
  for (int64_t row = 0; row < rows.size(); ++row) {
    if (static_cast<int64_t>(rows.length(row)) > options.block_size) {
      fail_data(cat("row ", row),
                cat(rows.length(row), " tokens don't fit into a block of ", options.block_size));
    }
  }
}

const BatchLoader::EpochPlan& BatchLoader::plan(int64_t epoch) const {
  if (!plan_ || plan_->epoch != epoch)
    plan_ = std::make_shared<const EpochPlan>(EpochPlan::make(*rows_, options_, epoch));
  return *plan_;
}

int64_t BatchLoader::batches(int64_t epoch) const {
  return (plan(epoch).units() + options_.micro_batch_size - 1) / options_.micro_batch_size;
}

PackedBatch BatchLoader::batch(int64_t epoch, int64_t index) const {
  const EpochPlan& of_epoch = plan(epoch);
  if (index < 0 || index >= batches(epoch)) {
    fail_data("BatchLoader",
              cat("epoch ", epoch, " has no micro-batch ", index, "; it has ", batches(epoch)));
  }
  const auto first = static_cast<size_t>(index * options_.micro_batch_size);
  const auto last =
      static_cast<size_t>(std::min((index + 1) * options_.micro_batch_size, of_epoch.units()));
  BatchBuilder batch;
  for (auto i = static_cast<size_t>(of_epoch.unit_starts[first]);
       i < static_cast<size_t>(of_epoch.unit_starts[last]); ++i) {
    const int64_t item = of_epoch.items[i];
    batch.add_row_number(item);
    if (options_.kind == RowKind::kPretrain) {
      const int64_t begin = item * options_.block_size;
      add_block(*rows_, begin, std::min(begin + options_.block_size, rows_->total_tokens()),
                options_.cross_documents, batch);
      continue;
    }
    batch.add_sequence(rows_->ids(item), rows_->supervised(item));
    const size_t room = static_cast<size_t>(options_.block_size) - rows_->length(item);
    if (!options_.packing) batch.pad(room, options_.pad_id);
  }
  return batch.finish();
}

}  // namespace llama2zh
