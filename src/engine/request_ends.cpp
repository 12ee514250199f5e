// How requests end: as they should, cancelled or failed; and what their listeners hear.
#include <algorithm>
#include <utility>

#include "engine/request_runner.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

double mean_logprob(const Sequence& sequence) {
  const size_t count = sequence.completion.ids.size();
  return count == 0 ? 0 : sequence.sum_logprob / static_cast<double>(count);
}

}  // namespace

void RequestRunner::finish_sequence(Sequence& sequence) {
  sequence.finished = true;
  sequence.completion.text = sequence.answer.released();
  sequence.completion.stop_text = sequence.answer.stop_text();
  sequence.completion.mean_logprob = mean_logprob(sequence);
  scheduler_.remove(sequence);
}

// Leaves the n best answers, and reports them as if they had just come.
void RequestRunner::report_best(RequestState& request) {
  std::vector<Completion>& answers = request.result.completions;
  if (!request.beams)
    std::stable_sort(answers.begin(), answers.end(), [](const Completion& a, const Completion& b) {
      return a.mean_logprob > b.mean_logprob;
    });
  answers.resize(static_cast<size_t>(request.request.n));
  for (size_t i = 0; i < answers.size(); ++i) {
    RequestEvent event{request.id, static_cast<int64_t>(i), answers[i].text};
    event.finish_reason = answers[i].finish_reason;
    event.completion = &answers[i];
    emit(request, event);
  }
}

void RequestRunner::finish_request(RequestState& request) {
  if (!request.result.error) {
    for (auto& sequence : request.sequences) {
      if (request.only_reads()) break;
      request.result.completions.push_back(std::move(sequence->completion));
    }
    if (request.beams && !request.result.cancelled)
      request.result.completions = request.beams->best(request.request.n);
    for (const Completion& completion : request.result.completions)
      request.result.generated_tokens += std::ssize(completion.ids);
    if (request.best_of > request.request.n || request.beams) report_best(request);
  }
  request.result.total_seconds = request.seconds();
  const RequestResult& result = request.result;
  ++(result.error ? counts_.failed : result.cancelled ? counts_.cancelled : counts_.finished);
  counts_.queried_prompt_tokens += result.queried_tokens;
  counts_.cached_prompt_tokens += result.cached_tokens;
  RequestEvent event;
  event.request = request.id;
  event.result = &request.result;
  emit(request, event);
  requests_.erase(request.id);
}

// Before its time: failed, or cancelled.
void RequestRunner::end_request(RequestState& request, std::exception_ptr error) {
  while (request.unborn() > 0) {
    const auto index = std::ssize(request.sequences);
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

void RequestRunner::emit(RequestState& request, const RequestEvent& event) {
  if (!request.on_event || (request.unheard && event.result == nullptr)) return;
  try {
    request.on_event(event);
  } catch (const std::exception& error) {
    log_error(cat("a request's listener failed: ", error.what()));
    request.unheard = true;
    unheard_.push_back(request.id);
  }
}

}  // namespace llama2zh
