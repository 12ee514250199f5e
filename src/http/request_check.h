#pragma once

#include <optional>
#include <string>

#include "http/asio.h"
#include "llama2zh/http/message.h"

namespace llama2zh {

struct BadRequest {
  int status;
  std::string reason;
};

// What Beast's parser said no to.
BadRequest bad_request_of(const ErrorCode& error);
// A head that can be read and yet not be served: no Host, an encoded body, an odd target.
std::optional<BadRequest> check_head(const http::request<http::string_body>& message);
// Of a message that check_head() had nothing against.
HttpRequest request_of(http::request<http::string_body> message, const std::string& remote);
// `given` where it is a request's id, else a new one.
std::string proper_id(std::string_view given);

}  // namespace llama2zh
