#pragma once

#include <memory>

#include "llama2zh/http/server.h"
#include "serve/served_model.h"

namespace llama2zh {

// The routes of the system that this one follows, for its clients.
//   POST /generate, /chatmed_generate  {"input", "instruction"?, "parameters"} ->
//        {"generated_text", "num_output_tokens_cf", "error"}
//   POST /llama_generate  {"query", "max_new_tokens", ...} -> {"query", "response"}: greedy,
//        repetition_penalty 1.3
//   POST /llm_generate    the same, drawn with top_p 0.9 and repetition_penalty 1.2
// What is sent beside these replaces the defaults.
void serve_original_generate(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
void serve_llama_generate(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
void serve_llm_generate(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace llama2zh
