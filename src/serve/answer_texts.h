#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/engine/request.h"
#include "serve/served_model.h"

namespace llama2zh {

// Pieces that chat and completion answers have in common.

std::string new_answer_id(const char* prefix);  // "chatcmpl-" and 24 random hex digits
int64_t unix_seconds();
// A token's bytes as text, with U+FFFD where they are none.
std::string token_text(const Tokenizer& tokenizer, TokenId id);
// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}.
json usage_of(const std::vector<RequestResult>& results);
// OpenAI's names for how an answer ended: "stop" or "length".
json finish_reason_of(const std::string& reason);
double shown_logprob(double logprob);  // not below -9999, for JSON has no infinity

}  // namespace llama2zh
