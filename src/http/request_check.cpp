// Which requests are refused before a handler sees them (RFC 9110, RFC 9112).
#include "http/request_check.h"

#include <algorithm>
#include <utility>

#include "llama2zh/base/random.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

// "http://host/path?query" -> "/path?query".
std::string_view without_authority(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equal_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
    const size_t slash = target.find('/', scheme.size());
    return slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return target;
}

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

std::string proper_id(std::string_view given) {
  if (is_request_id(given)) return std::string(given);
  return random_hex(16);
}

BadRequest bad_request_of(const ErrorCode& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return {431, "the request's head is too large"};
  if (error == http::error::body_limit) return {413, "the request's body is too large"};
  if (error == http::error::bad_version) return {505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  return {400, cat("the request is no valid HTTP: ", error.message())};
}

std::optional<BadRequest> check_head(const http::request<http::string_body>& message) {
  const auto hosts = message.equal_range(http::field::host);
  const auto count = std::distance(hosts.first, hosts.second);
  if (count > 1 || (count == 0 && message.version() >= 11))
    return BadRequest{400, "a request has exactly one Host header"};
  const std::string_view encoding = trim(view(message[http::field::content_encoding]));
  if (!encoding.empty() && !equal_ignoring_case(encoding, "identity"))
    return BadRequest{415, "bodies with a Content-Encoding are not read"};
  for (const auto& field : message) {
    if (field.name() == http::field::transfer_encoding &&
        !equal_ignoring_case(trim(view(field.value())), "chunked"))
      return BadRequest{501, "of transfer codings only chunked is read"};
  }
  const std::string_view target = without_authority(view(message.target()));
  std::string path;
  if (target != "*" && (target.empty() || target.front() != '/'))
    return BadRequest{400, "the request's target is no path"};
  if (!decode_percent(target.substr(0, target.find('?')), path) || !is_utf8(path))
    return BadRequest{400, "the request's path has a broken escape"};
  return std::nullopt;
}

HttpRequest request_of(http::request<http::string_body> message, const std::string& remote) {
  HttpRequest out;
  out.method = std::string(view(message.method_string()));
  out.target = std::string(view(message.target()));
  const std::string_view target = without_authority(out.target);
  const size_t mark = std::min(target.find('?'), target.size());
  decode_percent(target.substr(0, mark), out.path);
  out.query = std::string(target.substr(std::min(target.size(), mark + 1)));
  for (const auto& field : message)
    out.headers.push_back(
        {std::string(view(field.name_string())), std::string(view(field.value()))});
  out.body = std::move(message.body());
  out.remote = remote;
  out.id = proper_id(out.header("X-Request-Id"));
  return out;
}

}  // namespace llama2zh
