// Guesses at the next tokens, which the model then judges in one pass (Leviathan et al. 2023, Chen et
// al. 2023); prompt lookup is Saxena's (2023).
#include "engine/speculation.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <exception>

namespace llama2zh {
namespace {

constexpr size_t kLongestNgram = 3;

// A guess at the token after `sequence` and its drafts so far, from the draft model's logits.
void guess(Sequence& sequence, at::Tensor logits) {
  const RequestState& owner = *sequence.request;
  const SamplingConfig& config = owner.request.sampling;
  std::vector<TokenId> answer = sequence.completion.ids;
  answer.insert(answer.end(), sequence.drafts.begin(), sequence.drafts.end());
  if (TokenConstraint* constraint = owner.constraint.get()) {
    TokenConstraint::Position place = sequence.place;
    for (const TokenId draft : sequence.drafts) place = constraint->advance(place, draft);
    // Behind an end any guess will do: it is not looked at.
    if (place != GrammarMatcher::kNowhere && !constraint->is_complete(place))
      constrain(owner, place, logits);
  }
  process_logits(logits, config, owner.request.prompt, answer, owner.rules);
  sequence.drafts.push_back(sample(logits, config, sequence.draft_random));
  if (!is_greedy(config)) sequence.draft_logits.push_back(logits);
}

}  // namespace

std::vector<TokenId> lookup_draft(std::span<const TokenId> tokens, int64_t count) {
  const size_t size = tokens.size();
  for (size_t n = std::min(kLongestNgram, size - 1); n > 0; --n) {
    const auto end = tokens.last(n);
    for (size_t at = size - n; at-- > 0;) {
      if (!std::equal(end.begin(), end.end(), tokens.begin() + static_cast<std::ptrdiff_t>(at)))
        continue;
      const size_t length = std::min(static_cast<size_t>(count), size - at - n);
      const auto found = tokens.subspan(at + n, length);
      return {found.begin(), found.end()};
    }
  }
  return {};
}

struct DraftModel::Drafting {
  Sequence* sequence;
  BlockTable table;          // its length: what the draft model has computed
  std::vector<int64_t> ids;  // to be computed next
  int64_t wanted;            // drafts still to come
};

// Logits [batch, V] behind the last id of each.
at::Tensor DraftModel::forward(std::vector<Drafting>& batch) {
  std::stable_sort(batch.begin(), batch.end(), [](const Drafting& a, const Drafting& b) {
    return a.table.length > b.table.length;  // the order that PagedBatch wants
  });
  PagedBatch pages(store_);
  std::vector<int64_t> ids, rows;
  for (Drafting& one : batch) {
    pages.add(one.table, static_cast<int64_t>(one.ids.size()));
    ids.insert(ids.end(), one.ids.begin(), one.ids.end());
    rows.push_back(pages.tokens() - 1);
  }
  const at::Tensor hidden = model_->forward(at::tensor(ids).to(model_->device()), pages);
  for (Drafting& one : batch) one.table.length += static_cast<int64_t>(one.ids.size());
  return model_->logits(hidden.index_select(0, at::tensor(rows).to(model_->device())))
      .to(at::kCPU)
      .contiguous();
}

void DraftModel::propose(const std::vector<Planned>& plan) {
  std::vector<Drafting> batch;
  for (const Planned& planned : plan) {
    Sequence& sequence = *planned.sequence;
    if (!sequence.request->draft_model) continue;
    const auto first = sequence.tokens.begin() + sequence.table.length;
    batch.push_back({&sequence,
                     sequence.table,
                     {first, first + planned.rows - planned.drafts},
                     planned.drafts});
  }
  while (!batch.empty()) {
    const at::Tensor logits = forward(batch);
    for (size_t i = 0; i < batch.size(); ++i) {
      Drafting& one = batch[i];
      if (one.wanted > 0 && !one.sequence->error) {
        try {
          guess(*one.sequence, logits.select(0, static_cast<int64_t>(i)).clone());
        } catch (...) {
          one.sequence->error = std::current_exception();
          const auto missing = static_cast<size_t>(one.wanted);
          one.sequence->drafts.resize(one.sequence->drafts.size() + missing);
        }
        // The last guess is computed too: where all are right the text goes on behind it.
        one.ids = {one.sequence->drafts.back()};
      } else {
        one.ids.clear();
      }
      --one.wanted;
    }
    std::erase_if(batch, [](const Drafting& one) { return one.ids.empty(); });
  }
}

}  // namespace llama2zh
