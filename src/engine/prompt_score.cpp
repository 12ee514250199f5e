// Scores: the log-probability of each token of a prompt, or of given tokens behind it. The head runs over a few rows at a time, for
// a row has as many logits as the vocabulary has tokens.
#include <algorithm>

#include "engine/adapter_groups.h"
#include "engine/request_state.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

constexpr int64_t kRowsAtOnce = 64;

void check_finite(double logprob) {
  if (std::isfinite(logprob)) return;
  fail_data("score", "the model's logits are not finite numbers",
            "check the weights with `llama2zh inspect`, or try --dtype float32");
}

}  // namespace

void score_hidden(Sequence& sequence, const at::Tensor& hidden, const Llama& model) {
  RequestState& owner = *sequence.request;
  std::vector<SampledToken>& scores = owner.result.prompt_scores;
  // Computed anew after a preemption: what was there is overwritten.
  scores.resize(static_cast<size_t>(sequence.table.length) + 1);
  scores.front() = {sequence.tokens.front(), 0, {}};
  for (int64_t first = 0; first < hidden.size(0); first += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, hidden.size(0) - first);
    AdapterGroups adapters;
    adapters.add(owner.adapter, rows);
    const RowAdapters active(adapters.groups(model.device()));
    const at::Tensor logits = model.logits(hidden.narrow(0, first, rows)).to(at::kCPU).contiguous();
    for (int64_t i = 0; i < rows && scores.size() < sequence.tokens.size(); ++i) {
      const at::Tensor row = logits.select(0, i);
      const TokenLogprob said = logprob_of(row, sequence.tokens[scores.size()]);
      check_finite(said.logprob);
      SampledToken token{said.id, said.logprob, {}};
      if (owner.request.logprobs > 0) token.top = top_logprobs(row, owner.request.logprobs);
      scores.push_back(std::move(token));
    }
  }
}

void score_next(Sequence& sequence, const at::Tensor& logits) {
  RequestState& owner = *sequence.request;
  owner.result.next_scores.clear();
  for (const TokenId id : owner.request.next_ids) {
    owner.result.next_scores.push_back(logprob_of(logits, id));
    check_finite(owner.result.next_scores.back().logprob);
  }
}

}  // namespace llama2zh
