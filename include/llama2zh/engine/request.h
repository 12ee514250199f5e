#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "llama2zh/engine/constraint.h"
#include "llama2zh/engine/sampling.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// What becomes of a request's prompt.
enum class RequestKind {
  kAnswer,
  kMeanEmbedding,  // the mean of its hidden states behind the final norm
  kLastEmbedding,  // that of its last token
  kScore,          // how likely each of its tokens is behind those before it
  kNextToken,      // how likely each of next_ids is as the token behind it
};

// One prompt and how to answer it.
struct Request {
  std::vector<TokenId> prompt;
  RequestKind kind = RequestKind::kAnswer;
  bool normalize = false;         // an embedding: to length 1
  std::vector<TokenId> next_ids;  // kNextToken: ids of the model
  SamplingConfig sampling;
  std::vector<std::string> extra_stops;  // beside sampling.stop: a template's marks
  // The text goes on from the prompt's, "Once upon" + " a time"; else it is an answer of its own,
  // whose first space is the tokenizer's.
  bool continues = false;
  Constraint constraint;  // what the answer's text has to be
  std::string adapter;    // one of the engine's registry; empty: the model as it is
  int64_t n = 1;          // answers, each with its own draws; greedy ones are all alike; with
                          // num_beams the best n of them
  int64_t best_of = 0;    // answers made, of which the n with the highest mean log-probability stay
                          // (they come all at the end); 0: n
  int64_t priority = 0;   // higher ones go first, and may interrupt lower ones
  // Tokens guessed at once, where the engine does at all; -1: as it is set.
  int64_t speculative_tokens = -1;
  int64_t logprobs = -1;             // likeliest tokens to report beside each one; -1: no logprobs
  std::vector<TokenId> allowed_ids;  // the answer is made of these alone; empty: of any
  bool keep_stop = false;            // what ended the answer, a stop text or id, stays in its text
  bool skip_special = true;          // special tokens are no part of the text
};

struct SampledToken {
  TokenId id = 0;
  double logprob = 0;             // these two only where logprobs were asked for
  std::vector<TokenLogprob> top;  // the likeliest, best first
};

struct Completion {
  std::string text;
  // Without the EOS or stop id that ended it. A stop text's own tokens are among them (it may begin
  // inside a token), its characters are not in `text`.
  std::vector<TokenId> ids;
  std::vector<SampledToken> tokens;  // one for each id, where logprobs were asked for
  std::string finish_reason;         // "stop" (EOS, stop id, stop text), "length", "cancelled"
  TokenId end_id = -1;               // the EOS or stop id that ended it, if one did
  std::string stop_text;             // the stop text that ended it, if one did
  double beam_score = 0;             // with num_beams: by which answers are ordered
  double mean_logprob = 0;           // where logprobs were asked for, or with best_of
};

// How a request ended.
struct RequestResult {
  std::vector<Completion> completions;  // n of them; none where it failed
  std::exception_ptr error;             // an Error of this request; the engine has gone on
  std::vector<float> embedding;  // [H], where that was asked for; there are no completions then
  // kScore: one for each token of the prompt; the first's logprob is 0, for nothing is before it.
  std::vector<SampledToken> prompt_scores;
  std::vector<TokenLogprob> next_scores;  // kNextToken: one for each of next_ids, in their order
  bool cancelled = false;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // of all answers made, those that best_of dropped too
  int64_t queried_tokens = 0;    // of the prompt, looked for in the prefix cache
  int64_t cached_tokens = 0;     // of these, found
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // guessed ahead, and of these right
  // Since it was submitted, until: it began to run, its first token, its end.
  double queued_seconds = 0, first_token_seconds = 0, total_seconds = 0;
};

using RequestId = uint64_t;

// What has happened to one answer of a request: one new token, or its end, or both.
struct RequestEvent {
  RequestId request = 0;
  int64_t index = 0;  // which of the n answers
  // Text that can't change any more: whole characters, nothing that may become a stop text. Often
  // empty. All texts of an answer joined are its Completion::text.
  std::string text;
  const SampledToken* token = nullptr;     // the new token; null for an end without one
  std::string finish_reason;               // set with the answer's last event, unless it is cut off
  const Completion* completion = nullptr;  // the whole answer, where finish_reason is set
  const RequestResult* result = nullptr;   // set with the request's last event, alone
};
// Called from the thread that steps the engine, in order; it may call cancel() and submit(). What it
// throws cancels the request.
using OnEvent = std::function<void(const RequestEvent& event)>;

}  // namespace llama2zh
