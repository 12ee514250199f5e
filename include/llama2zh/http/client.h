#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/http/message.h"

namespace llama2zh {

struct HttpAnswer {
  int status = 0;
  std::vector<HttpHeader> headers;
  std::string body;  // empty where pieces were given to a listener
  std::string_view header(std::string_view name) const;
};

// A plain-HTTP client for benchmarks and tests: one connection a request, blocking. Not for
// downloads, which are libcurl's.
struct HttpCall {
  std::string host = "127.0.0.1";
  uint16_t port = 80;
  std::string method = "GET";
  std::string target = "/";
  std::vector<HttpHeader> headers;
  std::string body;
  double timeout = 600;  // seconds, of any one read
  // Gets the body's pieces as they come, and returns false to hang up. May be null.
  std::function<bool(std::string_view piece)> on_piece;
};
// kIo where the connection fails or the answer is broken off.
HttpAnswer http_call(const HttpCall& call);

}  // namespace llama2zh
