#pragma once

#include <string>

#include "llama2zh/http/server.h"

namespace llama2zh {

// A line for an answered request, as text or as a JSON object with the time. What clients sent is
// escaped; bodies are never in it.
std::string access_text(const HttpAccess& access);
std::string access_json(const HttpAccess& access);

}  // namespace llama2zh
