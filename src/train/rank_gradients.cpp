// The embeddings' gradient is the last that a backward pass makes, so it has nothing to overlap with;
// but of its many rows a step touches few.
#include "llama2zh/train/rank_gradients.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_unique.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <cstdio>

#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "llama2zh/distributed/row_sync.h"

namespace llama2zh {

RankGradients::RankGradients(ProcessGroup& group, const Llama& model, const ShardedAdamW& optimizer)
    : group_(&group) {
  const bool sharded = optimizer.shard_gradient().defined();
  for (const NamedParameter& parameter : optimizer.parameters()) {
    const bool whole = parameter.tensor.is_same(model.embed_tokens);
    const bool last_rows = parameter.tensor.is_same(model.embed_tokens_rows);
    if (sharded || model.config.tie_word_embeddings || !(whole || last_rows)) {
      summed_in_backward_.push_back(parameter.tensor);
      continue;
    }
    embeddings_ = parameter.tensor;
    first_row_ = parameter.first_row;
  }
  if (sharded) {
    reducer_ = std::make_unique<ShardReducer>(group, optimizer.layout(), summed_in_backward_,
                                              optimizer.shard_gradient());
    return;
  }
  if (summed_in_backward_.empty()) return;
  group.guarded("preparing the exchange of gradients",
                [&] { sync_ = std::make_unique<GradientSync>(group, summed_in_backward_); });
}

void RankGradients::start(bool is_last) {
  if (reducer_) reducer_->start();
  if (sync_ && is_last) sync_->start();
}

void RankGradients::make_up(int64_t own, int64_t most) {
  const int64_t rounds = reducer_ ? most - own : (own == 0 ? 1 : 0);
  for (int64_t i = 0; i < rounds; ++i) {
    start(/*is_last=*/true);
    touch(summed_in_backward_);
  }
}

void RankGradients::finish(const std::vector<PackedBatch>& batches, const std::string& what) {
  if (reducer_) reducer_->finish();
  if (!embeddings_.defined()) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> ids{at::empty({0}, at::kLong)};
  for (const PackedBatch& batch : batches) {
    if (batch.supervised > 0) ids.push_back(batch.ids);
  }
  at::Tensor touched = std::get<0>(at::_unique(at::cat(ids))) - first_row_;
  touched = touched.masked_select(touched >= 0).to(embeddings_.device());
  at::Tensor gradient = embeddings_.grad();
  if (!gradient.defined()) gradient = at::zeros_like(embeddings_.detach());
  sum_touched_rows(*group_, gradient, touched, what);
  embeddings_.mutable_grad() = gradient;
}

void check_same_on_all_ranks(ProcessGroup& group, const std::string& value,
                             const std::string& what) {
  const auto hash = static_cast<int64_t>(xxh64(value));
  const at::Tensor all = group.all_gather(at::full({1}, hash, at::kLong), "comparing " + what);
  std::vector<std::string> different;
  for (int64_t rank = 1; rank < group.size(); ++rank) {
    if (all[rank][0].item<int64_t>() != all[0][0].item<int64_t>()) different.push_back(cat(rank));
  }
  if (different.empty()) return;
  fail_usage(cat("rank ", group.rank()),
             cat(what, " of rank ", join(different, ", "), " differ from rank 0's"),
             "start every rank with the same command, config and files");
}

std::string parameters_fingerprint(const std::vector<NamedParameter>& parameters) {
  uint64_t hash = 0;
  for (const NamedParameter& parameter : parameters) {
    const at::Tensor bytes = parameter.tensor.detach().to(at::kCPU).contiguous();
    hash = xxh64(parameter.name, hash);
    hash = xxh64({static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()}, hash);
  }
  return std::to_string(hash);
}

}  // namespace llama2zh
