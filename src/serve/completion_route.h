#pragma once

#include <memory>

#include "llama2zh/http/server.h"
#include "serve/served_model.h"

namespace llama2zh {

void serve_completions(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);

// "prompt" or "input" of a request: a text, a list of texts, a list of ids, or a list of such lists.
// For texts, `texts` gets them.
std::vector<std::vector<TokenId>> prompts_of(const json& value, const char* name,
                                             const ServedModel& model,
                                             std::vector<std::string>* texts = nullptr);

}  // namespace llama2zh
