// Micro-batches as flat sequences with boundaries; labels are shifted here, once, so that nothing
// later needs to know where a row came from.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <span>

#include "data/epoch_plan.h"
#include "data/interleave.h"
#include "data/mixture.h"
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
void add_block(const RowSource& rows, int64_t begin, int64_t end, bool cross_documents,
               BatchBuilder& batch) {
  std::vector<TokenId> ids;
  std::vector<uint8_t> supervised;
  rows.read(begin, end - begin, ids, supervised);
  const auto add = [&](int64_t from, int64_t to) {
    const auto at = static_cast<size_t>(from - begin), count = static_cast<size_t>(to - from);
    batch.add_sequence(std::span(ids).subspan(at, count), std::span(supervised).subspan(at, count));
  };
  if (cross_documents) return add(begin, end);
  int64_t from = begin;
  for (int64_t row = rows.row_at(begin) + 1; rows.begin(row) < end; ++row) {
    add(from, rows.begin(row));
    from = rows.begin(row);
  }
  add(from, end);
}

void add_row(const RowSource& rows, int64_t row, const LoaderOptions& options,
             BatchBuilder& batch) {
  std::vector<TokenId> ids;
  std::vector<uint8_t> supervised;
  rows.read(rows.begin(row), static_cast<int64_t>(rows.length(row)), ids, supervised);
  if (static_cast<int64_t>(ids.size()) > options.block_size) {
    fail_data(cat("row ", row),
              cat(ids.size(), " tokens don't fit into a block of ", options.block_size));
  }
  batch.add_sequence(ids, supervised);
  if (!options.packing)
    batch.pad(static_cast<size_t>(options.block_size) - ids.size(), options.pad_id);
}

void check_options(const LoaderOptions& options) {
  if (options.block_size >= 2 && options.micro_batch_size >= 1) return;
  fail_usage("BatchLoader", cat("block_size ", options.block_size, ", micro_batch_size ",
                                options.micro_batch_size, ": expected at least 2 and 1"));
}

void check_rows(const RowSource& rows, const LoaderOptions& options) {
  if (options.kind == RowKind::kPretrain || rows.longest() <= options.block_size) return;
  for (int64_t row = 0; row < rows.size(); ++row) {
    if (static_cast<int64_t>(rows.length(row)) > options.block_size) {
      fail_data(cat("row ", row),
                cat(rows.length(row), " tokens don't fit into a block of ", options.block_size));
    }
  }
}

}  // namespace

struct BatchLoader::State {
  // A source and its latest passes; two, since a reader ahead may be in the next.
  struct Source {
    const RowSource* rows;
    uint64_t seed;
    int64_t blocks = 0, in_epoch = 0;
    int64_t first_number = 0;  // of its rows or blocks, in PackedBatch::rows
    std::deque<std::shared_ptr<const EpochPlan>> plans;
  };

  std::shared_ptr<const EpochPlan> plan(Source& source, int64_t epoch) {
    const std::lock_guard lock(mutex);
    for (const auto& known : source.plans) {
      if (known->epoch() == epoch) return known;
    }
    source.plans.push_back(
        std::make_shared<const EpochPlan>(*source.rows, options, source.seed, epoch));
    if (source.plans.size() > 2) source.plans.pop_front();
    return source.plans.back();
  }

  LoaderOptions options;
  std::vector<Source> sources;
  Interleaving order{{}};
  std::mutex mutex;
};

BatchLoader::BatchLoader(const RowSource& rows, const LoaderOptions& options)
    : BatchLoader(std::vector<MixedRows>{{&rows, {}, {}, {}}}, options) {}

BatchLoader::BatchLoader(const std::vector<MixedRows>& sources, const LoaderOptions& options)
    : state_(std::make_shared<State>()) {
  check_options(options);
  state_->options = options;
  int64_t number = 0;
  std::vector<int64_t> blocks;
  for (const MixedRows& mixed : sources) {
    check_rows(*mixed.rows, options);
    const auto index = static_cast<uint64_t>(state_->sources.size());
    State::Source source{.rows = mixed.rows,
                         .seed = options.seed + index * 0x9e3779b97f4a7c15u,
                         .first_number = number};
    source.blocks = state_->plan(source, 0)->units();
    number += options.kind == RowKind::kPretrain ? source.blocks : mixed.rows->size();
    blocks.push_back(source.blocks);
    state_->sources.push_back(std::move(source));
  }
  const std::vector<int64_t> in_epoch = blocks_in_epoch(sources, blocks, options.block_size);
  for (size_t i = 0; i < in_epoch.size(); ++i) state_->sources[i].in_epoch = in_epoch[i];
  state_->order = Interleaving(in_epoch);
}

int64_t BatchLoader::batches(int64_t) const {
  const int64_t micro = state_->options.micro_batch_size;
  return (state_->order.size() + micro - 1) / micro;
}

std::vector<BatchLoader::SourceBlocks> BatchLoader::sources() const {
  std::vector<SourceBlocks> result;
  for (const State::Source& source : state_->sources)
    result.push_back({source.blocks, source.in_epoch});
  return result;
}

PackedBatch BatchLoader::batch(int64_t epoch, int64_t index) const {
  if (epoch < 0 || index < 0 || index >= batches(epoch)) {
    fail_data("BatchLoader",
              cat("epoch ", epoch, " has no micro-batch ", index, "; it has ", batches(epoch)));
  }
  const LoaderOptions& options = state_->options;
  const int64_t first = index * options.micro_batch_size;
  const int64_t last = std::min(first + options.micro_batch_size, state_->order.size());
  BatchBuilder batch;
  for (int64_t position = first; position < last; ++position) {
    const Interleaving::Slot slot = state_->order.at(position);
    State::Source& source = state_->sources[slot.source];
    const int64_t taken = epoch * source.in_epoch + slot.item;
    const auto plan = state_->plan(source, taken / source.blocks);
    plan->for_each_item(taken % source.blocks, [&](int64_t item) {
      batch.add_row_number(source.first_number + item);
      if (options.kind == RowKind::kSft) return add_row(*source.rows, item, options, batch);
      const int64_t begin = item * options.block_size;
      add_block(*source.rows, begin,
                std::min(begin + options.block_size, source.rows->total_tokens()),
                options.cross_documents, batch);
    });
  }
  return batch.finish();
}

}  // namespace llama2zh
