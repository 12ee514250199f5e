#pragma once

#include <memory>

#include "llama2zh/http/server.h"
#include "serve/served_model.h"

namespace llama2zh {

void serve_embeddings(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace llama2zh
