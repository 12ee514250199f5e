// One pass over all pairs, in rounds of one batch for each rank. The file holds "chosen" and "rejected" [rows] fp32, NaN where a row is
// still to come, and "fingerprint" [n] uint8: the text that says whose they are. It is written anew,
// atomically, every half minute; rows that it has are not computed again.
#include "llama2zh/train/reference_pass.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string_view>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/preference_rows.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/train/step.h"

namespace llama2zh {
namespace {

constexpr std::chrono::seconds kSaveEvery{30};

at::Tensor text_tensor(const std::string& text) {
  at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::copy(text.begin(), text.end(), bytes.data_ptr<uint8_t>());
  return bytes;
}

// What the file has; none if it is not there or belongs to another reference.
std::optional<PairLogProbs> stored_log_probs(const fs::path& file, int64_t rows,
                                             const std::string& fingerprint) {
  if (!fs::exists(file)) return std::nullopt;
  const auto source = open_safetensors(file);
  const at::Tensor whose = source->load("fingerprint"), wanted = text_tensor(fingerprint);
  if (whose.scalar_type() != at::kByte || !whose.equal(wanted)) return std::nullopt;
  PairLogProbs stored;
  for (const char* name : {"chosen", "rejected"}) {
    const TensorInfo& info = source->require(name);
    if (info.dtype != at::kFloat || info.shape != std::vector<int64_t>{rows}) {
      fail_format(file.string(), cat("'", name, "' is not float32 [", rows, "]"),
                  "remove the file: it is computed anew");
    }
    (name == std::string_view("chosen") ? stored.chosen : stored.rejected) =
        source->load(name).clone();
  }
  return stored;
}

void store_log_probs(const fs::path& file, const PairLogProbs& values,
                     const std::string& fingerprint) {
  write_safetensors(file, {{"chosen", values.chosen},
                           {"fingerprint", text_tensor(fingerprint)},
                           {"rejected", values.rejected}});
}

// One pass of this rank and the others. `values` are known to all ranks and `fresh` to this one alone.
class Pass {
 public:
  Pass(const Llama& model, int64_t head_chunk_rows, PairLogProbs values, ProcessGroup* group)
      : model_(&model),
        head_chunk_rows_(head_chunk_rows),
        values_(std::move(values)),
        group_(group),
        fresh_(at::zeros({3, values_.chosen.size(0)}, at::kFloat)) {}

  const PairLogProbs& values() const { return values_; }

  // True if the rows were not known.
  bool add(PackedBatch given) {
    const at::Tensor rows = at::tensor(at::ArrayRef<int64_t>(given.rows), at::kLong);
    if (at::isfinite(values_.rejected.index_select(0, rows)).all().item<bool>()) return false;
    split_pairs(given);
    const PackedBatch batch = aligned(given, model_->device());
    PackedSequences sequences(batch.boundaries, model_->device());
    const at::Tensor sums = sequence_log_probs(*model_, batch, sequences, {}, head_chunk_rows_)
                                .sums.narrow(0, 0, 2 * rows.size(0))
                                .cpu()
                                .view({-1, 2});
    if (!at::isfinite(sums).all().item<bool>()) {
      fail_data(cat("reference, data row ", batch.rows.front()),
                "a log-probability is not a finite number", "use another model.dtype");
    }
    fresh_[kChosen].index_copy_(0, rows, sums.select(1, 0));
    fresh_[kRejected].index_copy_(0, rows, sums.select(1, 1));
    fresh_[kCount].index_fill_(0, rows, 1);
    return true;
  }

  // Makes what is fresh known to all; every rank has to call it.
  void exchange() {
    if (group_ != nullptr) group_->all_reduce(fresh_, "the log-probabilities of the reference");
    const at::Tensor known = fresh_[kCount].gt(0);
    values_.chosen = at::where(known, fresh_[kChosen], values_.chosen);
    values_.rejected = at::where(known, fresh_[kRejected], values_.rejected);
    fresh_.zero_();
  }

 private:
  enum : int64_t { kChosen, kRejected, kCount };
  const Llama* model_;
  int64_t head_chunk_rows_;
  PairLogProbs values_;
  ProcessGroup* group_;
  at::Tensor fresh_;  // [3, rows]; 0 where this rank computed nothing since the last exchange
};

}  // namespace

std::optional<PairLogProbs> read_reference_log_probs(const fs::path& file, int64_t rows,
                                                     const std::string& fingerprint) {
  std::optional<PairLogProbs> stored = stored_log_probs(file, rows, fingerprint);
  if (!stored || !at::isfinite(stored->rejected).all().item<bool>()) return std::nullopt;
  return stored;
}

std::optional<PairLogProbs> reference_log_probs(const Llama& model, const BatchLoader& loader,
                                                int64_t rows, int64_t head_chunk_rows,
                                                const fs::path& file,
                                                const std::string& fingerprint,
                                                ProcessGroup* group) {
  const at::NoGradGuard no_grad;
  const int64_t rank = group == nullptr ? 0 : group->rank();
  const int64_t ranks = group == nullptr ? 1 : group->size();
  const auto any = [&](bool flag, const char* what) {
    return group == nullptr ? flag : group->any(flag, what);
  };
  const auto unknown = [&] { return at::full({rows}, std::nan(""), at::kFloat); };
  PairLogProbs start =
      stored_log_probs(file, rows, fingerprint).value_or(PairLogProbs{unknown(), unknown()});
  if (group != nullptr) {  // the folder may be on rank 0's host alone
    group->broadcast(start.chosen, 0, "what rank 0 has of the reference");
    group->broadcast(start.rejected, 0, "what rank 0 has of the reference");
  }
  Pass pass(model, head_chunk_rows, std::move(start), group);
  bool changed = false;  // since `saved`
  auto saved = std::chrono::steady_clock::now();
  const auto save = [&] {
    if (!any(changed, "whether the reference grew")) return;
    pass.exchange();
    if (rank == 0) store_log_probs(file, pass.values(), fingerprint);
    saved = std::chrono::steady_clock::now();
    changed = false;
  };
  const int64_t batches = loader.batches(0);
  std::optional<Progress> progress;
  if (rank == 0) progress.emplace("reference", batches, "batch");
  for (int64_t first = 0; first < batches; first += ranks) {
    if (any(stop_requested(), "whether to stop the reference pass")) {
      if (progress) progress->finish("stopped");
      save();
      return std::nullopt;
    }
    if (first + rank < batches && pass.add(loader.batch(0, first + rank))) changed = true;
    if (progress) progress->update(std::min(first + ranks, batches));
    const bool late = std::chrono::steady_clock::now() - saved >= kSaveEvery;
    if (any(late, "whether to save the reference")) save();
  }
  if (progress) progress->finish();
  save();
  return pass.values();
}

}  // namespace llama2zh
