#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama2zh/tokenizer/chat_template.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct FittedPrompt {
  std::vector<TokenId> ids;
  int64_t dropped_turns = 0;  // oldest user + assistant pairs that had to go
};

// The prompt of the next answer. `messages`: an optional system message, turns of user and
// assistant, and the user's last message. The oldest turns go first, the system message never,
// until prompt + max_new_tokens fit into `context` tokens (a max_new_tokens beyond half the context
// counts as half). The last message alone may use all but one token; longer is a kData error that
// names both lengths.
FittedPrompt fit_prompt(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                        std::span<const Message> messages, int64_t context, int64_t max_new_tokens);

// The ids of a prompt without a template: special tokens in it are those, as Hugging Face's tokenizers
// read it; BOS before it where the tokenizer puts one there (and for an empty text).
std::vector<TokenId> raw_prompt(const Tokenizer& tokenizer, const std::string& text);

}  // namespace llama2zh
