#pragma once

#include <memory>

#include "llama2zh/http/server.h"
#include "serve/served_model.h"

namespace llama2zh {

// What is answered at once, without the engine.
void serve_models(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
void serve_one_model(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
void serve_tokenize(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
void serve_detokenize(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
// POST /v1/load_lora_adapter {"lora_name", "lora_path"} and /v1/unload_lora_adapter {"lora_name"}, as
// vLLM names them.
void serve_load_adapter(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);
void serve_unload_adapter(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace llama2zh
