#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "engine/beam_search.h"
#include "engine/stop_texts.h"
#include "engine/token_constraint.h"
#include "llama2zh/base/random.h"
#include "llama2zh/engine/adapter_registry.h"
#include "llama2zh/engine/block_pool.h"
#include "llama2zh/engine/request.h"
#include "llama2zh/model/llama.h"

namespace llama2zh {

struct RequestState;

// One answer in the making. What the scheduler needs of it, and what becomes of its tokens.
struct Sequence {
  Sequence(RequestState& owner, int64_t which, const Tokenizer& tokenizer);

  RequestState* request;
  int64_t index;
  std::vector<TokenId> tokens;  // prompt, then answer
  BlockTable table;             // its length: how many of `tokens` are computed
  std::vector<BlockKey> keys;   // of its first full blocks, as far as they were needed
  Random random;
  AnswerText answer;
  Completion completion;
  double sum_logprob = 0;
  bool running = false, finished = false;
  // Guesses at what comes behind `tokens`, for one step; their processed logits where the guesses
  // were drawn.
  int64_t wanted_drafts = 0;
  std::vector<TokenId> drafts;
  std::vector<at::Tensor> draft_logits;
  Random draft_random;
  // With beams: processed log-probabilities of the next token, where they are computed; and the
  // unprocessed, where logprobs were asked for.
  at::Tensor scores, raw_scores;
  TokenConstraint::Position place = 0;  // of what is said so far, where there is a constraint
  std::exception_ptr error;             // what failed in it in the step under way
  at::Tensor pooled;  // of an embedding: [H] float64, the sum over what is computed, or the last
  bool ready() const { return scores.defined(); }

  int64_t pending() const { return static_cast<int64_t>(tokens.size()) - table.length; }
};

struct RequestState {
  using Clock = std::chrono::steady_clock;

  // Checks the request: see Engine::submit. `capacity`: tokens that the whole cache holds.
  RequestState(Request asked, OnEvent listener, const Llama& model, const Tokenizer& tokenizer,
               int64_t capacity, int64_t max_running);

  RequestId id = 0;  // in the order of arrival
  Request request;
  OnEvent on_event;
  TokenRules rules;
  int64_t drafts = 0;                           // guesses at once, at most
  bool draft_model = false;                     // by whom: the draft model, or looked up
  std::shared_ptr<TokenConstraint> constraint;  // null: none
  at::Tensor allowed;                           // request.allowed_ids; undefined: all
  std::vector<TokenId> ends;                    // rules.ends as a list
  std::unique_ptr<BeamSearch> beams;            // null: none
  std::shared_ptr<const NamedAdapter> adapter;  // null: the model as it is
  int64_t best_of, limit;                       // answers made; tokens of an answer at most
  // The first alone until its prompt is computed; then the others begin on its blocks.
  std::vector<std::unique_ptr<Sequence>> sequences;
  RequestResult result;
  Clock::time_point submitted = Clock::now();
  bool unheard = false;  // its listener threw; it is told of the end only

  const Tokenizer* tokenizer;
  // Sequences that are still to come.
  // Guesses that the sequence can make use of in its next step.
  int64_t useful_drafts(const Sequence& sequence) const;
  int64_t unborn() const { return best_of - static_cast<int64_t>(sequences.size()); }
  void set_constraint(std::shared_ptr<TokenConstraint> made);
  bool only_reads() const { return request.kind != RequestKind::kAnswer; }  // makes no answer
  bool wants_score() const { return request.kind == RequestKind::kScore; }
  bool wants_next() const { return request.kind == RequestKind::kNextToken; }
  bool wants_last_logits() const { return !only_reads() || wants_next(); }
  bool wants_logprobs() const { return request.logprobs >= 0 || best_of > request.n; }
  bool all_finished() const;
  double seconds() const;  // since it was submitted
};

// The next token of `sequence` out of the model's logits [V] (fp32, CPU, changed): chosen, appended,
// its text released. Sets finish_reason where the answer has ended. kData if the logits are not
// finite.
struct NewToken {
  bool chosen = false;  // false where an ending id was drawn
  SampledToken token;
  std::string text;
};
// draft: the place of a guess in sequence.drafts, -1: none was made.
NewToken choose_token(Sequence& sequence, at::Tensor logits, int64_t draft = -1);

// With beams: keeps what the logits say of the next token until all beams are there. kData as above.
void keep_scores(Sequence& sequence, const at::Tensor& logits);
// The token with what its beam says of it, where logprobs were asked for.
SampledToken said_token(const Sequence& sequence, TokenId id);

// For an embedding: takes the hidden states [rows, H] of the next tokens; `begins`: of the first.
void pool_hidden(Sequence& sequence, const at::Tensor& hidden, bool begins);
// All are there: sets the result's embedding. kData if it is not finite.
void finish_embedding(Sequence& sequence);

// For a score: takes the hidden states [rows, H] of the next tokens. kData if logits are not finite.
void score_hidden(Sequence& sequence, const at::Tensor& hidden, const Llama& model);

// For kNextToken: what the model's logits [V] behind the prompt say of next_ids. kData if they are not
// finite.
void score_next(Sequence& sequence, const at::Tensor& logits);

// Forbids in logits [V] what the request does not allow, or its constraint does not let follow
// `place`. kData if nothing is left.
void constrain(const RequestState& request, TokenConstraint::Position place, at::Tensor& logits);

}  // namespace llama2zh
