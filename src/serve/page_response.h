#pragma once

#include <optional>

#include "llama2zh/http/server.h"

namespace llama2zh {

// The chat page's file at a request's path, with its policy and as the browser takes it: compressed, or
// 304 where it has it. None where there is no such file.
std::optional<HttpResponse> page_response(const HttpRequest& request);

}  // namespace llama2zh
