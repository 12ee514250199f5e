#pragma once

#include <memory>

#include "llama2zh/http/server.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "serve/served_model.h"

namespace llama2zh {

// OpenAI's list of messages: content a text, or a list of {"type": "text", "text"}; null is empty.
std::vector<Message> messages_of(const json& list);

void serve_chat(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace llama2zh
