#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/engine/request.h"
#include "serve/body_fields.h"
#include "serve/served_model.h"

namespace llama2zh {

// What requests for chat and for completions have in common: OpenAI's fields and vLLM's.
struct AnswerFields {
  Request request;  // all but its prompt
  bool stream = false;
  bool include_usage = false;  // with stream
};

// Fields that this server can't do as they ask are 400s; unknown ones are passed over. The caller has
// read what the two kinds name differently: max_tokens and logprobs.
// `text`: the whole request body, for what depends on the order of keys.
AnswerFields read_answer_fields(const BodyFields& body, const ServedModel& model,
                                std::string_view text);

// Largest max_tokens that a request may ask for.
int64_t most_new_tokens(const ServedModel& model);
int64_t most_answers(const ServedModel& model);
int64_t random_seed();
// 400 with the code "context_length_exceeded", naming both lengths, unless the prompt leaves room for
// an answer of at least `answer` tokens.
void check_prompt_length(const std::vector<TokenId>& prompt, int64_t answer,
                         const ServedModel& model, const char* param);
// Ids that a client sent; 400 for those that the model lacks.
std::vector<TokenId> checked_ids(const std::vector<int64_t>& ids, const ServedModel& model,
                                 const char* param);
// Of a text: with BOS where the tokenizer adds one; marks in it become their ids.
std::vector<TokenId> ids_of_text(const std::string& text, const ServedModel& model, bool add_bos);

}  // namespace llama2zh
