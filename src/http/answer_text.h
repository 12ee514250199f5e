#pragma once

#include <string>

#include "llama2zh/http/server.h"

namespace llama2zh {

// The head of an answer as it goes over the wire. `version`: 10 or 11. Line breaks in header values
// are left out, whoever put them there.
std::string whole_head(const HttpResponse& response, unsigned version, bool keep_alive);
std::string stream_head(const HttpResponse& response, unsigned version, bool keep_alive);

}  // namespace llama2zh
