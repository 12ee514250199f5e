// The forward pass of a step, and what is read off the hidden states themselves.
#include <ATen/ops/tensor.h>

#include "engine/adapter_groups.h"
#include "engine/request_runner.h"

namespace llama2zh {

// Logits [rows, V] of sequences that are complete and of their guesses, fp32 on the CPU.
at::Tensor RequestRunner::forward(const std::vector<Planned>& plan) {
  if (draft_) draft_->propose(plan);
  PagedBatch batch(scheduler_.store());
  AdapterGroups adapters, complete;
  std::vector<int64_t> ids, rows;
  for (const Planned& planned : plan) {
    const Sequence& sequence = *planned.sequence;
    const auto first = sequence.tokens.begin() + sequence.table.length;
    ids.insert(ids.end(), first, first + planned.rows - planned.drafts);
    const auto draft = sequence.drafts.begin();
    ids.insert(ids.end(), draft, draft + planned.drafts);
    batch.add(sequence.table, planned.rows);
    adapters.add(sequence.request->adapter, planned.rows);
    if (planned.is_complete() && sequence.request->wants_last_logits()) {
      for (int64_t i = planned.drafts; i >= 0; --i) rows.push_back(batch.tokens() - 1 - i);
      complete.add(sequence.request->adapter, 1 + planned.drafts);
    }
    RequestResult& result = sequence.request->result;
    if (result.queued_seconds == 0) result.queued_seconds = sequence.request->seconds();
  }
  count_step(batch.tokens());
  at::Tensor hidden;
  {
    const RowAdapters active(adapters.groups(model_->device()));
    hidden = model_->forward(at::tensor(ids).to(model_->device()), batch);
  }
  read_hidden(plan, hidden);
  if (rows.empty()) return {};
  if (static_cast<int64_t>(rows.size()) < batch.tokens())
    hidden = hidden.index_select(0, at::tensor(rows).to(model_->device()));
  const RowAdapters active(complete.groups(model_->device()));
  return model_->logits(hidden).to(at::kCPU).contiguous();
}

void RequestRunner::read_hidden(const std::vector<Planned>& plan, const at::Tensor& hidden) {
  int64_t first = 0;
  for (const Planned& planned : plan) {
    Sequence& sequence = *planned.sequence;
    try {
      if (sequence.request->wants_score())
        score_hidden(sequence, hidden.narrow(0, first, planned.rows), *model_);
      else if (sequence.request->only_reads() && !sequence.request->wants_next())
        pool_hidden(sequence, hidden.narrow(0, first, planned.rows), sequence.table.length == 0);
    } catch (...) {
      sequence.error = std::current_exception();
    }
    first += planned.rows;
  }
}

}  // namespace llama2zh
