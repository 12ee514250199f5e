#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/engine/request.h"
#include "serve/answer_fields.h"
#include "serve/served_model.h"

namespace llama2zh {

// Pieces that chat and completion answers have in common.

// "chatcmpl-" and the client's own id, or else 24 random hex digits.
std::string answer_id(const char* prefix, const std::string& request_id);
int64_t unix_seconds();
// A token's bytes as text, with U+FFFD where they are none.
std::string token_text(const Tokenizer& tokenizer, TokenId id);
// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}.
json usage_of(const std::vector<RequestResult>& results);
json usage_so_far(int64_t prompt_tokens, int64_t completion_tokens);  // without details
// OpenAI's names for how an answer ended: "stop" or "length".
json finish_reason_of(const std::string& reason);
// vLLM's: the stop text or stop id of the request that ended the answer; null for its other ends.
json stop_reason_of(const Completion& completion, const SamplingConfig& asked);
// Those of a whole answer, as vLLM counts them: with the one that ended it.
std::vector<TokenId> all_ids(const Completion& completion);
// Adds to a streamed choice what vLLM says beside OpenAI: "stop_reason" with an answer's end, the
// event's "token_ids" where they are asked for.
void add_event_details(json& choice, const RequestEvent& event, const AnswerFields& asked);
double shown_logprob(double logprob);  // not below -9999, for JSON has no infinity

}  // namespace llama2zh
