// Errors in OpenAI's shape (formats.md 5.7).
#include "serve/api_error.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

json text_or_null(const std::string& text) { return text.empty() ? json(nullptr) : json(text); }

}  // namespace

void refuse_field(const std::string& param, const std::string& message) {
  throw ApiFailure({400, message, param, "", 0});
}

ApiError api_error_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ApiFailure& failure) {
    return failure.error();
  } catch (const Error& failure) {
    const bool clients = failure.kind() == ErrorKind::kUsage || failure.kind() == ErrorKind::kData;
    if (!clients) log_error(failure.what());
    return {clients ? 400 : 500, failure.what(), "", "", 0};
  } catch (const std::exception& failure) {
    log_error(cat("a request failed: ", failure.what()));
    return {500, "the server could not answer this request; its log says why", "", "", 0};
  }
}

json error_body(const ApiError& error) {
  return {{"error",
           {{"message", utf8_sanitize(error.message)},
            {"type", type_of(error.status)},
            {"param", text_or_null(error.param)},
            {"code", text_or_null(error.code)}}}};
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse out{error.status, "application/json", error_body(error).dump() + "\n", {}};
  if (error.retry_after > 0)
    out.headers.push_back({"Retry-After", std::to_string(error.retry_after)});
  if (error.status == 401) out.headers.push_back({"WWW-Authenticate", "Bearer"});
  return out;
}

}  // namespace llama2zh
