// In each step the (1 + number of ending ids) * beams likeliest continuations of all beams, twice as
// many at least, are looked at; of these the ones that end count if they are among the first `beams`,
// and the first `beams` that don't end go on. Sums are in fp32, as there.
#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>

#include "engine/request_state.h"

namespace llama2zh {
namespace {

constexpr float kLost = -1e9F;  // a beam that stands in where too few go on

float penalised(float score, int64_t length, double penalty) {
  return score / static_cast<float>(std::pow(static_cast<double>(length), penalty));
}

bool is_better(const BeamSearch::Continuation& a, const BeamSearch::Continuation& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
}

}  // namespace

BeamSearch::BeamSearch(const SamplingConfig& config)
    : config_(config), beams_(static_cast<size_t>(config.num_beams)), scores_{0} {}

std::vector<BeamSearch::Continuation> BeamSearch::candidates(const RequestState& request) const {
  const size_t keep = std::max<size_t>(2, 1 + request.rules.ends.size()) * beams_;
  std::vector<Continuation> all;
  for (size_t beam = 0; beam < scores_.size(); ++beam) {
    const at::Tensor& row = request.sequences[beam]->scores;
    const float* values = row.const_data_ptr<float>();
    std::vector<Continuation> own(static_cast<size_t>(row.numel()));
    for (size_t id = 0; id < own.size(); ++id)
      own[id] = {beam, static_cast<TokenId>(id), scores_[beam] + values[id], {}};
    const size_t most = std::min(keep, own.size());
    std::partial_sort(own.begin(), own.begin() + static_cast<std::ptrdiff_t>(most), own.end(),
                      is_better);
    all.insert(all.end(), own.begin(), own.begin() + static_cast<std::ptrdiff_t>(most));
  }
  std::sort(all.begin(), all.end(), is_better);
  all.resize(std::min(keep, all.size()));
  return all;
}

// Whether the candidate ends its beam. If it `counts` it is kept, should it be good enough.
bool BeamSearch::end(const Sequence& parent, const Continuation& candidate, bool counts) {
  const RequestState& request = *parent.request;
  const bool ending_id = request.rules.ends.contains(candidate.token);
  const auto length = static_cast<int64_t>(parent.completion.ids.size()) + 1;
  AnswerText answer = parent.answer;
  if (!ending_id) answer.push(candidate.token);
  if (!ending_id && !answer.stopped() && length < request.limit) return false;
  if (!counts) return true;
  Completion completion = parent.completion;
  if (!ending_id) {
    completion.ids.push_back(candidate.token);
    if (request.request.logprobs >= 0)
      completion.tokens.push_back(said_token(parent, candidate.token));
  }
  answer.finish();
  completion.text = answer.released();
  completion.stop_text = answer.stop_text();
  if (ending_id) completion.end_id = candidate.token;
  completion.finish_reason = ending_id || answer.stopped() ? "stop" : "length";
  completion.beam_score = penalised(candidate.score, length, config_.length_penalty);
  const auto score = static_cast<float>(completion.beam_score);
  ended_.push_back({score, std::move(completion)});
  return true;
}

// `length`: tokens of an answer so far.
bool BeamSearch::is_over(const RequestState& request, int64_t length) const {
  if (ended_.size() < beams_) return false;
  if (config_.early_stopping == "true") return true;
  const bool to_the_end = config_.early_stopping == "never" && config_.length_penalty > 0;
  const float best =
      penalised(scores_.front(), to_the_end ? request.limit : length, config_.length_penalty);
  return best <= ended_.back().score;
}

std::vector<BeamSearch::Continuation> BeamSearch::step(const RequestState& request) {
  const std::vector<Continuation> looked_at = candidates(request);
  std::vector<Continuation> next, lost;
  for (size_t rank = 0; rank < looked_at.size(); ++rank) {
    Continuation candidate = looked_at[rank];
    const Sequence& parent = *request.sequences[candidate.parent];
    const bool ends = end(parent, candidate, rank < beams_);
    std::vector<Continuation>& list = ends ? lost : next;
    if (list.size() == beams_) continue;
    if (request.request.logprobs >= 0) candidate.said = said_token(parent, candidate.token);
    if (ends) candidate.score += kLost;
    list.push_back(std::move(candidate));
  }
  std::stable_sort(ended_.begin(), ended_.end(),
                   [](const Ended& a, const Ended& b) { return a.score > b.score; });
  if (ended_.size() > beams_) ended_.resize(beams_, Ended{});
  if (next.empty()) return {};
  for (size_t i = 0; next.size() < beams_ && i < lost.size(); ++i) next.push_back(lost[i]);
  scores_.clear();
  for (const Continuation& beam : next) scores_.push_back(beam.score);
  const auto length = static_cast<int64_t>(request.sequences.front()->completion.ids.size()) + 1;
  if (is_over(request, length)) return {};
  return next;
}

std::vector<Completion> BeamSearch::best(int64_t count) const {
  std::vector<Completion> out;
  for (const Ended& one : ended_) {
    if (std::ssize(out) < count) out.push_back(one.completion);
  }
  return out;
}

void continue_beams(RequestState& request, const std::vector<BeamSearch::Continuation>& next) {
  struct Text {
    std::vector<TokenId> tokens;
    AnswerText answer;
    Completion completion;
  };
  std::vector<Text> texts;
  for (const BeamSearch::Continuation& one : next) {
    const Sequence& parent = *request.sequences[one.parent];
    Text text{parent.tokens, parent.answer, parent.completion};
    text.tokens.push_back(one.token);
    text.answer.push(one.token);
    text.completion.ids.push_back(one.token);
    if (request.request.logprobs >= 0) text.completion.tokens.push_back(one.said);
    texts.push_back(std::move(text));
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    Sequence& sequence = *request.sequences[i];
    sequence.tokens = std::move(texts[i].tokens);
    sequence.answer = std::move(texts[i].answer);
    sequence.completion = std::move(texts[i].completion);
    sequence.scores.reset();
    sequence.raw_scores.reset();
  }
}

}  // namespace llama2zh
