#pragma once

#include <exception>
#include <string>
#include <utility>

#include "llama2zh/base/json.h"
#include "llama2zh/http/server.h"

namespace llama2zh {

// What a client is told instead of an answer, in OpenAI's shape:
// {"error": {"message", "type", "param", "code"}}; an empty param or code is null.
struct ApiError {
  int status = 400;
  std::string message;
  std::string param;    // the field of the body
  std::string code;     // "model_not_found", "context_length_exceeded", ...
  int retry_after = 0;  // seconds; 0: not said
};

class ApiFailure : public std::exception {
 public:
  explicit ApiFailure(ApiError error) : error_(std::move(error)) {}
  const ApiError& error() const { return error_; }
  const char* what() const noexcept override { return error_.message.c_str(); }

 private:
  ApiError error_;
};

[[noreturn]] void refuse_field(const std::string& param, const std::string& message);

// ApiFailure as it is; Error of kinds kUsage and kData is the client's (400), the rest is ours (500).
ApiError api_error_of(const std::exception_ptr& error);
json error_body(const ApiError& error);
HttpResponse error_response(const ApiError& error);

}  // namespace llama2zh
