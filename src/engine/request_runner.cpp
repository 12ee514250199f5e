// A step: the scheduler plans; one forward pass; the head over the last row of each sequence that is
// complete; a token for each; events. What fails in one sequence ends its request, what fails in the
// pass ends the requests that were in it.
#include "engine/request_runner.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>
#include <set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/kernels/few_row_product.h"

namespace llama2zh {
RequestRunner::RequestRunner(const Llama& model, const Tokenizer& tokenizer,
                             const EngineConfig& config, const Llama* draft)
    : model_(&model),
      tokenizer_(&tokenizer),
      deterministic_(config.deterministic),
      scheduler_(config, model, draft) {
  if (draft != nullptr) {
    draft_ =
        std::make_unique<DraftModel>(*draft, scheduler_.pool().size(), kv_type(config, *draft));
    scheduler_.store().share_numbers(draft_->store());
  }
  if (deterministic_ && !model.device().is_cpu())
    fail_usage("deterministic", cat("there are no such products on ", model.device().str()),
               "compute on the CPU with --device cpu");
}

void RequestRunner::add(std::unique_ptr<RequestState> request) {
  Sequence& first = *request->sequences.front();
  requests_.emplace(request->id, std::move(request));
  scheduler_.add(first);
}

void RequestRunner::cancel(RequestId id) {
  const auto it = requests_.find(id);
  if (it == requests_.end()) return;
  it->second->result.cancelled = true;
  end_request(*it->second, nullptr);
}

void RequestRunner::cancel_all() {
  while (!requests_.empty()) cancel(requests_.begin()->first);
}

void RequestRunner::step() {
  const at::NoGradGuard no_grad;
  std::optional<InvariantProducts> invariant;
  if (deterministic_) invariant.emplace();
  for (const RequestId id : std::exchange(unheard_, {})) cancel(id);
  const std::vector<Planned> plan = plan_step();
  if (plan.empty()) return;
  std::vector<RequestId> ids;
  for (const Planned& planned : plan) ids.push_back(planned.sequence->request->id);
  try {
    compute(plan);
  } catch (...) {
    end_requests(ids, std::current_exception());
  }
  ++counts_.steps;
}

void RequestRunner::count_step(int64_t tokens) {
  const auto& bounds = EngineStats::kStepTokens;
  const auto bound = std::lower_bound(bounds.begin(), bounds.end(), tokens);
  ++counts_.steps_by_tokens[static_cast<size_t>(bound - bounds.begin())];
  counts_.step_tokens += tokens;
}

EngineStats RequestRunner::stats() const {
  EngineStats stats = counts_;
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  stats.blocks = scheduler_.pool().size();
  stats.used_blocks = scheduler_.pool().used();
  stats.preemptions = scheduler_.preemptions();
  std::set<std::string> running, waiting;
  for (const auto& [id, request] : requests_) {
    if (!request->adapter) continue;
    const bool runs = std::any_of(request->sequences.begin(), request->sequences.end(),
                                  [](const auto& sequence) { return sequence->running; });
    (runs ? running : waiting).insert(request->adapter->name);
  }
  stats.running_adapters.assign(running.begin(), running.end());
  stats.waiting_adapters.assign(waiting.begin(), waiting.end());
  return stats;
}

void RequestRunner::look_up_drafts() {
  for (Sequence* sequence : scheduler_.running_sequences()) {
    sequence->drafts.clear();
    sequence->draft_logits.clear();
    sequence->wanted_drafts = sequence->request->useful_drafts(*sequence);
    if (sequence->wanted_drafts == 0 || sequence->request->draft_model) continue;
    sequence->drafts = lookup_draft(sequence->tokens, sequence->wanted_drafts);
    sequence->wanted_drafts = std::ssize(sequence->drafts);
  }
}

// Without the requests for which there was no memory.
std::vector<Planned> RequestRunner::plan_step() {
  look_up_drafts();
  std::vector<Scheduler::Failure> failed;
  std::vector<Planned> plan = scheduler_.plan_step(failed);
  for (const Scheduler::Failure& failure : failed) {
    const RequestId id = failure.sequence->request->id;
    std::erase_if(plan, [&](const Planned& entry) { return entry.sequence->request->id == id; });
  }
  std::vector<std::pair<RequestId, std::exception_ptr>> errors;
  for (const Scheduler::Failure& failure : failed)
    errors.emplace_back(failure.sequence->request->id, failure.error);
  for (const auto& [id, error] : errors) end_requests({id}, error);
  return plan;
}

void RequestRunner::end_requests(const std::vector<RequestId>& ids,
                                 const std::exception_ptr& error) {
  for (const RequestId id : ids) {
    const auto it = requests_.find(id);
    if (it != requests_.end()) end_request(*it->second, error);
  }
}

void RequestRunner::compute(const std::vector<Planned>& plan) {
  const at::Tensor logits = forward(plan);
  std::vector<Outcome> outcomes;
  int64_t row = 0;
  for (const Planned& planned : plan) {
    Sequence& sequence = *planned.sequence;
    const bool wanted = planned.is_complete();
    const std::exception_ptr failed = std::exchange(sequence.error, nullptr);
    if (sequence.completion.ids.empty()) counts_.prompt_tokens += planned.rows;
    scheduler_.computed(planned);
    if (failed) outcomes.push_back({.sequence = &sequence, .error = failed});
    if (!wanted) continue;
    if (failed) {
      if (sequence.request->wants_last_logits()) row += 1 + planned.drafts;
      continue;
    }
    if (!sequence.request->wants_last_logits()) {
      outcomes.push_back({&sequence});
      continue;
    }
    outcomes.push_back({&sequence, row, planned.drafts});
    row += 1 + planned.drafts;
    begin_others(*sequence.request, outcomes);
  }
  at::parallel_for(0, std::ssize(outcomes), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) choose(outcomes[static_cast<size_t>(i)], logits);
  });
  // One outcome may end a request that another belongs to.
  std::vector<std::pair<RequestId, Outcome*>> order;
  for (Outcome& outcome : outcomes) {
    for (const NewToken& token : outcome.tokens) counts_.generated_tokens += token.chosen;
    count_drafts(outcome);
    order.emplace_back(outcome.sequence->request->id, &outcome);
  }
  for (const auto& [id, outcome] : order) {
    if (requests_.contains(id)) deliver(*outcome);
  }
}

// Where all beams of a request are there, each goes on as the search says.
void RequestRunner::step_beams(RequestState& request) {
  const bool all = std::all_of(request.sequences.begin(), request.sequences.end(),
                               [](const auto& sequence) { return sequence->ready(); });
  if (!all || request.unborn() > 0) return;
  if (request.result.first_token_seconds == 0)
    request.result.first_token_seconds = request.seconds();
  const std::vector<BeamSearch::Continuation> next = request.beams->step(request);
  if (next.empty()) {
    for (auto& sequence : request.sequences) finish_sequence(*sequence);
    return finish_request(request);
  }
  std::vector<Sequence*> sequences;
  std::vector<size_t> parents;
  for (const BeamSearch::Continuation& one : next) {
    sequences.push_back(request.sequences[parents.size()].get());
    parents.push_back(one.parent);
  }
  scheduler_.rebase(sequences, parents);
  continue_beams(request, next);
  counts_.generated_tokens += std::ssize(next);
}

// A token, and as long as guesses prove right the next.
void RequestRunner::choose(Outcome& outcome, const at::Tensor& logits) {
  if (outcome.error) return;
  Sequence& sequence = *outcome.sequence;
  try {
    if (sequence.request->wants_score()) return;
    if (sequence.request->wants_next()) return score_next(sequence, logits.select(0, outcome.row));
    if (sequence.request->only_reads()) return finish_embedding(sequence);
    for (int64_t i = 0; i <= outcome.drafts; ++i) {
      at::Tensor row = logits.select(0, outcome.row + i);
      if (sequence.request->best_of > 1) row = row.clone();  // others may have the same
      if (sequence.request->beams) {
        keep_scores(sequence, row);
        return;
      }
      const bool guessed = i < outcome.drafts;
      outcome.tokens.push_back(choose_token(sequence, row, guessed ? i : -1));
      const NewToken& got = outcome.tokens.back();
      if (!sequence.completion.finish_reason.empty() || !guessed) break;
      if (got.token.id != sequence.drafts[static_cast<size_t>(i)]) break;
    }
  } catch (...) {
    outcome.error = std::current_exception();
  }
}

// What was right of the guesses is computed already.
void RequestRunner::count_drafts(const Outcome& outcome) {
  if (outcome.drafts == 0 || outcome.tokens.empty()) return;
  Sequence& sequence = *outcome.sequence;
  int64_t right = 0;
  for (const NewToken& token : outcome.tokens) {
    if (right == outcome.drafts || !token.chosen ||
        token.token.id != sequence.drafts[static_cast<size_t>(right)])
      break;
    ++right;
  }
  RequestResult& result = sequence.request->result;
  result.drafted_tokens += outcome.drafts;
  result.accepted_tokens += right;
  counts_.drafted_tokens += outcome.drafts;
  counts_.accepted_tokens += right;
  // Of an answer that has ended the last token is in nobody's way, but was never asked for.
  scheduler_.accepted(sequence, std::min(right, sequence.pending() - 1));
}

// The prompt is computed: the request's other answers begin, with the logits of the first.
void RequestRunner::begin_others(RequestState& request, std::vector<Outcome>& outcomes) {
  const int64_t row = outcomes.back().row;
  while (request.unborn() > 0) {
    const auto index = std::ssize(request.sequences);
    auto sequence = std::make_unique<Sequence>(request, index, *tokenizer_);
    scheduler_.fork(*request.sequences.front(), *sequence);
    outcomes.push_back({sequence.get(), row});
    request.sequences.push_back(std::move(sequence));
  }
}

void RequestRunner::deliver(Outcome& outcome) {
  Sequence& sequence = *outcome.sequence;
  RequestState& request = *sequence.request;
  if (outcome.error) return end_request(request, outcome.error);
  if (request.only_reads()) {
    finish_sequence(sequence);
    return finish_request(request);
  }
  if (request.beams) return step_beams(request);
  if (request.result.first_token_seconds == 0)
    request.result.first_token_seconds = request.seconds();
  const bool ended = !sequence.completion.finish_reason.empty();
  if (ended) finish_sequence(sequence);
  if (request.best_of == request.request.n) {
    for (NewToken& token : outcome.tokens) {
      RequestEvent event{request.id, sequence.index, std::move(token.text)};
      if (token.chosen) event.token = &token.token;
      if (ended && &token == &outcome.tokens.back()) {
        event.finish_reason = sequence.completion.finish_reason;
        event.completion = &sequence.completion;
      }
      emit(request, event);
    }
  }
  if (request.all_finished()) finish_request(request);
}

}  // namespace llama2zh
