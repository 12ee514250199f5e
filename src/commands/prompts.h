#pragma once

#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {

// How texts become prompts: `raw` as they are, after BOS, with special tokens in them as their ids;
// else as dialogues in the model's chat template.
struct PromptForm {
  bool raw = false;
  std::string system;  // where a dialogue has none of its own; empty: the template's
};

std::vector<TokenId> prompt_of_text(const LoadedModel& loaded, const PromptForm& form,
                                    const std::string& text);
// A row of a file: {"prompt": text} (also with "system"), or a dialogue in any of the forms that
// training reads, whose last answer is left out: "messages" or "conversations", "instruction" with
// "input", "query" with "history". With `raw` only "prompt" and "text". kData names `where`.
std::vector<TokenId> prompt_of_row(const LoadedModel& loaded, const PromptForm& form, json row,
                                   const std::string& where);

}  // namespace llama2zh
