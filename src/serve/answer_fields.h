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
  bool include_usage = false;     // with stream
  bool continuous_usage = false;  // in every event, with include_usage
  bool token_ids = false;         // return_token_ids
  std::string request_id;         // the client's, for the answer's id; "": none
  int64_t truncate = 0;           // truncate_prompt_tokens; 0: not said
};

// Fields that this server can't do as they ask are 400s; unknown ones are passed over. The caller has
// read what the two kinds name differently: max_tokens and logprobs.
// `text`: the whole request body, for what depends on the order of keys.
AnswerFields read_answer_fields(const BodyFields& body, const ServedModel& model,
                                std::string_view text);
// Those of completions that mean nothing where a chat template lays out the prompt: echo,
// add_special_tokens.
void refuse_prompt_fields(const BodyFields& body);

// Largest max_tokens that a request may ask for.
int64_t most_new_tokens(const ServedModel& model);
int64_t most_answers(const ServedModel& model);
int64_t random_seed();
// 400 with the code "context_length_exceeded", naming both lengths, unless the prompt leaves room for
// an answer of at least `answer` tokens.
void check_prompt_length(const std::vector<TokenId>& prompt, int64_t answer,
                         const ServedModel& model, const char* param);
// truncate_prompt_tokens: 0 where it is not said, -1 for what the context holds.
int64_t read_truncation(const BodyFields& body, const ServedModel& model);
// Leaves the last `most` tokens of a prompt, and its BOS. -1: those beside which an answer of at least
// `answer` tokens has room; 0: all.
void truncate_prompt(std::vector<TokenId>& prompt, int64_t most, int64_t answer,
                     const ServedModel& model);
// Ids that a client sent; 400 for those that the model lacks.
std::vector<TokenId> checked_ids(const std::vector<int64_t>& ids, const ServedModel& model,
                                 const char* param);
// Of a text: with BOS where the tokenizer adds one; marks in it become their ids.
std::vector<TokenId> ids_of_text(const std::string& text, const ServedModel& model, bool add_bos);

}  // namespace llama2zh
