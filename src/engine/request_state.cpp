#include "engine/request_state.h"

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kMostLogprobs = 1000;

std::vector<std::string> all_stops(const Request& request) {
  std::vector<std::string> stops = request.sampling.stop;
  stops.insert(stops.end(), request.extra_stops.begin(), request.extra_stops.end());
  return stops;
}

// `answer`: tokens that must have room behind it.
void check_prompt(std::span<const TokenId> prompt, const LlamaConfig& config, int64_t capacity,
                  int64_t answer) {
  if (prompt.empty()) fail_data("prompt", "it has no tokens", "start with BOS");
  const auto length = static_cast<int64_t>(prompt.size());
  const int64_t context = config.context_length();
  if (length > context - answer) {
    fail_data("prompt",
              cat("it has ", length, " tokens, but the model's context of ", context,
                  " leaves room for ", context - answer),
              "shorten the prompt");
  }
  if (length > capacity) {
    fail_data("prompt",
              cat("it has ", length, " tokens, but the cache of keys and values holds ", capacity),
              "shorten the prompt or give more memory by kv_cache_gib");
  }
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] >= 0 && prompt[i] < config.vocab_size) continue;
    fail_data(
        "prompt",
        cat("token ", i, " is ", prompt[i], ", but the model has ids 0 to ", config.vocab_size - 1),
        "use the tokenizer that belongs to the model");
  }
}

void check_beams(const Request& request, int64_t max_running) {
  const int64_t beams = request.sampling.num_beams;
  if (beams == 1) return;
  if (!is_greedy(request.sampling))
    fail_usage("num_beams", "beams do not go with draws", "set temperature 0");
  if (request.n > beams)
    fail_usage("num_return_sequences", cat(request.n, " answers are more than ", beams, " beams"));
  if (request.best_of > 0) fail_usage("best_of", "it does not go with num_beams");
  if (beams > max_running)
    fail_usage("num_beams", cat(beams, " beams at once, but max_running is ", max_running));
}

void check_counts(const Request& request, int64_t max_running) {
  const bool several = request.n > 1 || request.best_of > 1 || request.sampling.num_beams > 1;
  if (request.kind != RequestKind::kAnswer && several)
    fail_usage("n", "a text has one embedding", "leave n, best_of and num_beams alone");
  check_beams(request, max_running);
  const int64_t made = std::max(request.best_of, request.n);
  if (request.n < 1) fail_usage("n", cat(request.n, " answers were asked for"));
  if (request.best_of != 0 && request.best_of < request.n)
    fail_usage("best_of", cat(request.best_of, " is less than n = ", request.n));
  if (made > max_running) {
    fail_usage(request.best_of > request.n ? "best_of" : "n",
               cat(made, " answers at once, but max_running is ", max_running));
  }
  if (request.logprobs > kMostLogprobs)
    fail_usage("logprobs", cat(request.logprobs, " is more than ", kMostLogprobs));
}

void check_next_ids(const Request& request, const LlamaConfig& config) {
  if ((request.kind == RequestKind::kNextToken) == request.next_ids.empty())
    fail_usage("next_ids", "they belong to a request for the next token, which needs some");
  for (const TokenId id : request.next_ids) {
    if (id < 0 || id >= config.vocab_size)
      fail_data("next_ids", cat(id, ", but the model has ids 0 to ", config.vocab_size - 1));
  }
}

// As a tensor, for masks; undefined where all ids are allowed.
at::Tensor allowed_tensor(const Request& request, const LlamaConfig& config) {
  if (request.allowed_ids.empty()) return {};
  for (const TokenId id : request.allowed_ids) {
    if (id < 0 || id >= config.vocab_size)
      fail_data("allowed_ids", cat(id, ", but the model has ids 0 to ", config.vocab_size - 1));
  }
  return at::tensor(std::vector<int64_t>(request.allowed_ids.begin(), request.allowed_ids.end()));
}

// Leaves in logits [V] those of allowed ids.
void keep_allowed(const RequestState& request, at::Tensor& logits) {
  if (!request.allowed.defined()) return;
  const at::Tensor kept = logits.index_select(0, request.allowed);
  logits.fill_(-std::numeric_limits<float>::infinity());
  logits.index_copy_(0, request.allowed, kept);
}

// Answers of one request draw differently; the first as a request with one answer does.
uint64_t seed_of(int64_t seed, int64_t index) {
  return static_cast<uint64_t>(seed) + static_cast<uint64_t>(index) * 0x9E3779B97F4A7C15u;
}

void note_logprob(const Sequence& sequence, const at::Tensor& logits, TokenId id,
                  SampledToken& token) {
  token.logprob = logprob_of(logits, id).logprob;
  const int64_t count = sequence.request->request.logprobs;
  if (count > 0) token.top = top_logprobs(logits, count);
}

// Moves the sequence's place on; whether the constraint lets nothing follow.
bool completes(Sequence& sequence, TokenId id) {
  TokenConstraint* constraint = sequence.request->constraint.get();
  if (constraint == nullptr) return false;
  sequence.place = constraint->advance(sequence.place, id);
  return constraint->is_complete(sequence.place);
}

}  // namespace

Sequence::Sequence(RequestState& owner, int64_t which, const Tokenizer& tokenizer)
    : request(&owner),
      index(which),
      tokens(owner.request.prompt),
      random(seed_of(owner.request.sampling.seed, which)),
      answer(tokenizer, all_stops(owner.request),
             owner.request.continues ? std::span<const TokenId>(owner.request.prompt)
                                     : std::span<const TokenId>(),
             {owner.request.keep_stop, owner.request.skip_special}),
      draft_random(~seed_of(owner.request.sampling.seed, which)),
      place(owner.constraint ? owner.constraint->start() : 0) {}

RequestState::RequestState(Request asked, OnEvent listener, const Llama& model,
                           const Tokenizer& words, int64_t capacity, int64_t max_running)
    : request(std::move(asked)), on_event(std::move(listener)), tokenizer(&words) {
  check_prompt(request.prompt, model.config, capacity, only_reads() ? 0 : 1);
  check_counts(request, max_running);
  check_next_ids(request, model.config);
  rules = token_rules(request.sampling, all_stops(request), model.config, words);
  allowed = allowed_tensor(request, model.config);
  best_of = std::max(request.best_of, request.n);
  if (request.sampling.num_beams > 1) {
    best_of = request.sampling.num_beams;
    beams = std::make_unique<BeamSearch>(request.sampling);
  }
  const auto length = static_cast<int64_t>(request.prompt.size());
  // The last token of an answer is never computed, so it needs no place in the cache.
  limit = std::min({request.sampling.max_new_tokens, model.config.context_length() - length,
                    capacity + 1 - length});
  result.prompt_tokens = length;
  sequences.push_back(std::make_unique<Sequence>(*this, 0, words));
}

int64_t RequestState::useful_drafts(const Sequence& sequence) const {
  if (drafts == 0 || beams || sequence.completion.ids.empty() || sequence.pending() != 1) return 0;
  // The last token of an answer comes from the model itself.
  const auto made = static_cast<int64_t>(sequence.completion.ids.size());
  return std::max<int64_t>(0, std::min(drafts, limit - made - 1));
}

void RequestState::set_constraint(std::shared_ptr<TokenConstraint> made) {
  if (beams || only_reads())
    fail_usage("constraint", "it does not go with num_beams, nor where no answer is made");
  constraint = std::move(made);
  ends.assign(rules.ends.begin(), rules.ends.end());
  for (auto& sequence : sequences) sequence->place = constraint->start();
}

void constrain(const RequestState& request, TokenConstraint::Position place, at::Tensor& logits) {
  keep_allowed(request, logits);
  if (!request.constraint) return;
  request.constraint->mask(place, logits, request.ends);
  if (std::isinf(logits.max().item<float>()))
    fail_data("constraint", "no token of this vocabulary can go on here");
}

bool RequestState::all_finished() const {
  return unborn() == 0 && std::all_of(sequences.begin(), sequences.end(),
                                      [](const auto& sequence) { return sequence->finished; });
}

double RequestState::seconds() const {
  return std::chrono::duration<double>(Clock::now() - submitted).count();
}

NewToken choose_token(Sequence& sequence, at::Tensor logits, int64_t draft) {
  const RequestState& owner = *sequence.request;
  const SamplingConfig& config = owner.request.sampling;
  Completion& completion = sequence.completion;
  at::Tensor raw;
  if (owner.wants_logprobs()) raw = logits.clone();
  constrain(owner, sequence.place, logits);
  process_logits(logits, config, owner.request.prompt, completion.ids, owner.rules);
  const auto place = static_cast<size_t>(draft);
  const bool drawn = draft >= 0 && place < sequence.draft_logits.size();
  const TokenId id = draft < 0
                         ? sample(logits, config, sequence.random)
                         : sample_with_draft(logits, sequence.drafts[place],
                                             drawn ? sequence.draft_logits[place] : at::Tensor(),
                                             config, sequence.random);
  NewToken out;
  if (owner.rules.ends.contains(id)) {
    completion.finish_reason = "stop";
    completion.end_id = id;
    if (owner.request.keep_stop) out.text = sequence.answer.push(id);
  } else {
    out.chosen = true;
    out.token.id = id;
    if (raw.defined()) {
      note_logprob(sequence, raw, id, out.token);
      sequence.sum_logprob += out.token.logprob;
    }
    completion.ids.push_back(id);
    if (owner.request.logprobs >= 0) completion.tokens.push_back(out.token);
    sequence.tokens.push_back(id);
    out.text = sequence.answer.push(id);
    const bool full = static_cast<int64_t>(completion.ids.size()) == owner.limit;
    const bool ended = sequence.answer.stopped() || completes(sequence, id);
    completion.finish_reason = ended ? "stop" : full ? "length" : "";
  }
  if (completion.finish_reason.empty()) return out;
  out.text += sequence.answer.finish();  // the rest can itself end in a stop text
  if (sequence.answer.stopped()) completion.finish_reason = "stop";
  return out;
}

void keep_scores(Sequence& sequence, const at::Tensor& logits) {
  const RequestState& owner = *sequence.request;
  if (owner.request.logprobs >= 0) sequence.raw_scores = logits.clone();
  at::Tensor scores = at::log_softmax(logits, -1);
  keep_allowed(owner, scores);
  process_logits(scores, owner.request.sampling, owner.request.prompt, sequence.completion.ids,
                 owner.rules);
  sequence.scores = scores;
}

SampledToken said_token(const Sequence& sequence, TokenId id) {
  SampledToken token;
  token.id = id;
  if (sequence.raw_scores.defined()) note_logprob(sequence, sequence.raw_scores, id, token);
  return token;
}

}  // namespace llama2zh
