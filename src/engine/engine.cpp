// A step: what came in (requests, cancellations) is taken; the scheduler plans; one forward pass; the
// head over the last row of each sequence that is complete; a token for each; events. What fails in
// one sequence ends its request, what fails in the pass ends the requests that were in it.
#include "llama2zh/engine/engine.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// What became of one sequence in a step.
struct Outcome {
  Sequence* sequence;
  NewToken token;
  std::exception_ptr error;
};

double mean_logprob(const Sequence& sequence) {
  const size_t count = sequence.completion.ids.size();
  return count == 0 ? 0 : sequence.sum_logprob / static_cast<double>(count);
}

}  // namespace

class Engine::Implementation {
 public:
  Implementation(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config)
      : model_(&model), tokenizer_(&tokenizer), config_(config), scheduler_(config, model) {}

  RequestId submit(Request request, OnEvent on_event);
  void cancel(RequestId request);
  bool step();
  void run();
  void stop();
  EngineStats stats() const;

 private:
  void take_mail();
  void cancel_all();
  at::Tensor forward(const std::vector<Planned>& plan, const std::vector<Sequence*>& complete);
  void compute(const std::vector<Planned>& plan);
  void birth(RequestState& request, std::vector<Outcome>& outcomes, std::vector<int64_t>& rows);
  void choose_all(std::vector<Outcome>& outcomes, const at::Tensor& logits,
                  const std::vector<int64_t>& rows);
  void deliver(Outcome& outcome);
  void finish_sequence(Sequence& sequence);
  void finish_request(RequestState& request);
  void end_request(RequestState& request, std::exception_ptr error);
  void pick_best(RequestState& request);
  void emit(RequestState& request, const RequestEvent& event);
  void count_step();

  const Llama* model_;
  const Tokenizer* tokenizer_;
  EngineConfig config_;
  Scheduler scheduler_;
  std::map<RequestId, std::unique_ptr<RequestState>> requests_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable mail_;
  std::vector<std::unique_ptr<RequestState>> submitted_;
  std::vector<RequestId> cancelled_;
  RequestId last_id_ = 0;
  bool stopping_ = false;
  EngineStats stats_;
};

RequestId Engine::Implementation::submit(Request request, OnEvent on_event) {
  auto state = std::make_unique<RequestState>(std::move(request), std::move(on_event), *model_,
                                              *tokenizer_, scheduler_.pool().size() * kBlockTokens,
                                              config_.max_running);
  const std::lock_guard lock(mutex_);
  state->id = ++last_id_;
  submitted_.push_back(std::move(state));
  mail_.notify_one();
  return last_id_;
}

void Engine::Implementation::cancel(RequestId request) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(request);
  mail_.notify_one();
}

void Engine::Implementation::take_mail() {
  std::vector<std::unique_ptr<RequestState>> submitted;
  std::vector<RequestId> cancelled;
  {
    const std::lock_guard lock(mutex_);
    submitted.swap(submitted_);
    cancelled.swap(cancelled_);
  }
  for (auto& state : submitted) {
    RequestState& request = *state;
    requests_.emplace(request.id, std::move(state));
    scheduler_.add(*request.sequences.front());
  }
  for (const RequestId id : cancelled) {
    const auto it = requests_.find(id);
    if (it == requests_.end()) continue;
    it->second->result.cancelled = true;
    end_request(*it->second, nullptr);
  }
}

bool Engine::Implementation::step() {
  const at::NoGradGuard no_grad;
  take_mail();
  const std::vector<Planned> plan = scheduler_.plan_step();
  if (!plan.empty()) {
    try {
      compute(plan);
    } catch (...) {
      const std::exception_ptr error = std::current_exception();
      std::vector<RequestId> ids;  // ending one request may end others by what listeners do
      for (const Planned& planned : plan) ids.push_back(planned.sequence->request->id);
      for (const RequestId id : ids) {
        const auto it = requests_.find(id);
        if (it != requests_.end()) end_request(*it->second, error);
      }
    }
  }
  count_step();
  return !plan.empty();
}

// Logits [complete, V] fp32 on the CPU.
at::Tensor Engine::Implementation::forward(const std::vector<Planned>& plan,
                                           const std::vector<Sequence*>& complete) {
  PagedBatch batch(scheduler_.store());
  std::vector<int64_t> ids, rows;
  for (const Planned& planned : plan) {
    const Sequence& sequence = *planned.sequence;
    const auto first = sequence.tokens.begin() + sequence.table.length;
    ids.insert(ids.end(), first, first + planned.rows);
    batch.add(sequence.table, planned.rows);
    if (planned.rows == sequence.pending()) rows.push_back(batch.tokens() - 1);
  }
  at::Tensor hidden = model_->forward(at::tensor(ids).to(model_->device()), batch);
  if (complete.empty()) return {};
  if (static_cast<int64_t>(rows.size()) < batch.tokens())
    hidden = hidden.index_select(0, at::tensor(rows).to(model_->device()));
  return model_->logits(hidden).to(at::kCPU).contiguous();
}

void Engine::Implementation::compute(const std::vector<Planned>& plan) {
  std::vector<Sequence*> complete;
  for (const Planned& planned : plan) {
    if (planned.rows == planned.sequence->pending()) complete.push_back(planned.sequence);
  }
  for (const Planned& planned : plan) {
    RequestResult& result = planned.sequence->request->result;
    if (result.queued_seconds == 0) result.queued_seconds = planned.sequence->request->seconds();
  }
  const at::Tensor logits = forward(plan, complete);
  int64_t prompt_tokens = 0;
  for (const Planned& planned : plan) {
    if (planned.sequence->completion.ids.empty()) prompt_tokens += planned.rows;
    scheduler_.computed(planned);
  }
  std::vector<Outcome> outcomes;
  std::vector<int64_t> rows;  // of logits, one for each outcome
  for (size_t i = 0; i < complete.size(); ++i) {
    outcomes.push_back({complete[i], {}, nullptr});
    rows.push_back(static_cast<int64_t>(i));
    birth(*complete[i]->request, outcomes, rows);
  }
  choose_all(outcomes, logits, rows);
  {
    const std::lock_guard lock(mutex_);
    stats_.prompt_tokens += prompt_tokens;
    for (const Outcome& outcome : outcomes) stats_.generated_tokens += outcome.token.chosen;
  }
  // A listener may end other requests of this step, by throwing: look each one up.
  std::vector<std::pair<RequestId, Outcome*>> order;
  for (Outcome& outcome : outcomes) order.emplace_back(outcome.sequence->request->id, &outcome);
  for (const auto& [id, outcome] : order) {
    if (requests_.contains(id)) deliver(*outcome);
  }
}

// The prompt is computed: the request's other answers begin, with the logits of the first.
void Engine::Implementation::birth(RequestState& request, std::vector<Outcome>& outcomes,
                                   std::vector<int64_t>& rows) {
  while (request.unborn() > 0) {
    const auto index = static_cast<int64_t>(request.sequences.size());
    auto sequence = std::make_unique<Sequence>(request, index, *tokenizer_);
    scheduler_.fork(*request.sequences.front(), *sequence);
    outcomes.push_back({sequence.get(), {}, nullptr});
    rows.push_back(rows.back());
    request.sequences.push_back(std::move(sequence));
  }
}

void Engine::Implementation::choose_all(std::vector<Outcome>& outcomes, const at::Tensor& logits,
                                        const std::vector<int64_t>& rows) {
  const auto count = static_cast<int64_t>(outcomes.size());
  const auto shared = [&](size_t i) {
    return (i > 0 && rows[i] == rows[i - 1]) || (i + 1 < rows.size() && rows[i] == rows[i + 1]);
  };
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t at = begin; at < end; ++at) {
      const auto i = static_cast<size_t>(at);
      try {
        const at::Tensor row = logits.select(0, rows[i]);
        outcomes[i].token = choose_token(*outcomes[i].sequence, shared(i) ? row.clone() : row);
      } catch (...) {
        outcomes[i].error = std::current_exception();
      }
    }
  });
}

void Engine::Implementation::deliver(Outcome& outcome) {
  Sequence& sequence = *outcome.sequence;
  RequestState& request = *sequence.request;
  if (outcome.error) return end_request(request, outcome.error);
  if (request.result.first_token_seconds == 0)
    request.result.first_token_seconds = request.seconds();
  const bool ended = !sequence.completion.finish_reason.empty();
  if (ended) finish_sequence(sequence);
  if (request.best_of == request.request.n) {
    RequestEvent event{request.id, sequence.index, std::move(outcome.token.text)};
    if (outcome.token.chosen) event.token = &outcome.token.token;
    event.finish_reason = sequence.completion.finish_reason;
    emit(request, event);
  }
  if (request.all_finished()) finish_request(request);
}

void Engine::Implementation::finish_sequence(Sequence& sequence) {
  sequence.finished = true;
  sequence.completion.text = sequence.answer.released();
  sequence.completion.mean_logprob = mean_logprob(sequence);
  scheduler_.remove(sequence);
}

// Leaves the n best answers, and reports them as if they had just come.
void Engine::Implementation::pick_best(RequestState& request) {
  std::vector<Completion>& answers = request.result.completions;
  std::stable_sort(answers.begin(), answers.end(), [](const Completion& a, const Completion& b) {
    return a.mean_logprob > b.mean_logprob;
  });
  answers.resize(static_cast<size_t>(request.request.n));
  for (size_t i = 0; i < answers.size(); ++i) {
    RequestEvent event{request.id, static_cast<int64_t>(i), answers[i].text};
    event.finish_reason = answers[i].finish_reason;
    emit(request, event);
  }
}

void Engine::Implementation::finish_request(RequestState& request) {
  if (!request.result.error) {
    for (auto& sequence : request.sequences)
      request.result.completions.push_back(std::move(sequence->completion));
    if (request.best_of > request.request.n) pick_best(request);
  }
  request.result.total_seconds = request.seconds();
  {
    const std::lock_guard lock(mutex_);
    if (request.result.error)
      ++stats_.failed;
    else if (request.result.cancelled)
      ++stats_.cancelled;
    else
      ++stats_.finished;
    stats_.cached_prompt_tokens += request.result.cached_tokens;
  }
  RequestEvent event;
  event.request = request.id;
  event.result = &request.result;
  emit(request, event);
  requests_.erase(request.id);
}

// Before its time: failed, or cancelled.
void Engine::Implementation::end_request(RequestState& request, std::exception_ptr error) {
  while (request.unborn() > 0) {
    const auto index = static_cast<int64_t>(request.sequences.size());
    request.sequences.push_back(std::make_unique<Sequence>(request, index, *tokenizer_));
  }
  for (auto& sequence : request.sequences) {
    if (sequence->finished) continue;
    finish_sequence(*sequence);
    if (sequence->completion.finish_reason.empty())
      sequence->completion.finish_reason = "cancelled";
  }
  request.result.error = std::move(error);
  finish_request(request);
}

void Engine::Implementation::emit(RequestState& request, const RequestEvent& event) {
  if (!request.on_event || (request.cancelled && event.result == nullptr)) return;
  try {
    request.on_event(event);
  } catch (const std::exception& error) {
    log_error(cat("a request's listener failed: ", error.what()));
    request.cancelled = true;
    cancel(request.id);
  }
}

void Engine::Implementation::count_step() {
  const std::lock_guard lock(mutex_);
  stats_.running = scheduler_.running();
  stats_.waiting = scheduler_.waiting();
  stats_.blocks = scheduler_.pool().size();
  stats_.used_blocks = scheduler_.pool().used();
  stats_.preemptions = scheduler_.preemptions();
  ++stats_.steps;
}

void Engine::Implementation::run() {
  while (true) {
    if (step()) {
      const std::lock_guard lock(mutex_);
      if (stopping_) break;
      continue;
    }
    std::unique_lock lock(mutex_);
    mail_.wait(lock, [&] { return stopping_ || !submitted_.empty() || !cancelled_.empty(); });
    if (stopping_) break;
  }
  cancel_all();
}

void Engine::Implementation::cancel_all() {
  take_mail();
  while (!requests_.empty()) {
    RequestState& request = *requests_.begin()->second;
    request.result.cancelled = true;
    end_request(request, nullptr);
  }
  count_step();
}

void Engine::Implementation::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  mail_.notify_all();
}

EngineStats Engine::Implementation::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats out = stats_;
  out.waiting += static_cast<int64_t>(submitted_.size());
  return out;
}

Engine::Engine(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config)
    : implementation_(std::make_unique<Implementation>(model, tokenizer, config)) {}
Engine::~Engine() = default;
RequestId Engine::submit(Request request, OnEvent on_event) {
  return implementation_->submit(std::move(request), std::move(on_event));
}
void Engine::cancel(RequestId request) { implementation_->cancel(request); }
bool Engine::step() { return implementation_->step(); }
void Engine::run() { implementation_->run(); }
void Engine::stop() { implementation_->stop(); }
EngineStats Engine::stats() const { return implementation_->stats(); }

}  // namespace llama2zh
