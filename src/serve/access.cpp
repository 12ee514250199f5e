// Keys are compared by their digests with CRYPTO_memcmp: neither length nor beginning shows in the
// time it takes. Host is checked against DNS rebinding (a page whose name is made to point at
// 127.0.0.1), Origin against pages that post without being allowed to read the answer.
#include "serve/access.h"

#include <openssl/crypto.h>

#include <cstdlib>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// "[::1]:8000" -> "[::1]", "a.b:80" -> "a.b".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.size(), host.find(']') + 1));
  return host.substr(0, host.find(':'));
}

std::vector<std::string> keys_of(const ServeConfig& config) {
  std::vector<std::string> keys;
  if (const char* listed = std::getenv("LLAMA2ZH_API_KEYS"); listed != nullptr)
    for (const std::string& key : split(listed, ','))
      if (!trim(key).empty()) keys.emplace_back(trim(key));
  if (std::getenv("LLAMA2ZH_API_KEYS") != nullptr && keys.empty())
    fail_usage("LLAMA2ZH_API_KEYS", "it is set, and there is no key in it",
               "unset it to ask for none");
  if (config.api_key_file.empty()) return keys;
  const size_t before = keys.size();
  for (const std::string& line : split(read_file(config.api_key_file), '\n'))
    if (!trim(line).empty() && trim(line).front() != '#') keys.emplace_back(trim(line));
  if (keys.size() == before)
    fail_usage(config.api_key_file, "there is no key in it", "write one key a line");
  return keys;
}

}  // namespace

Access::Access(const ServeConfig& config, const std::string& host)
    : hosts_(config.allowed_hosts),
      origins_(config.cors_origins),
      on_loopback_(is_loopback_host(host)) {
  for (const std::string& key : keys_of(config)) digests_.push_back(sha256_hex(key));
}

bool Access::key_is_right(const HttpRequest& request) const {
  if (digests_.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view given = request.header("Authorization");
  if (!equal_ignoring_case(given.substr(0, kScheme.size()), kScheme)) return false;
  const std::string digest = sha256_hex(trim(given.substr(kScheme.size())));
  int right = 0;
  for (const std::string& known : digests_)
    right |= CRYPTO_memcmp(digest.data(), known.data(), digest.size()) == 0 ? 1 : 0;
  return right != 0;
}

bool Access::host_is_right(std::string_view host) const {
  const std::string_view name = without_port(host);
  // No browser leaves it out, and no page elsewhere has a loopback name.
  if (name.empty() || is_loopback_host(name)) return true;
  if (hosts_.empty()) return !on_loopback_;
  for (const std::string& allowed : hosts_)
    if (equal_ignoring_case(name, allowed)) return true;
  return false;
}

bool Access::origin_is_listed(std::string_view origin) const {
  for (const std::string& allowed : origins_)
    if (allowed == "*" || equal_ignoring_case(origin, allowed)) return true;
  return false;
}

// Pages of this server itself, and those on the list.
bool Access::origin_is_right(const HttpRequest& request) const {
  const std::string_view origin = request.header("Origin");
  if (origin.empty() || origin_is_listed(origin)) return true;
  const size_t scheme = origin.find("://");
  return scheme != std::string_view::npos &&
         equal_ignoring_case(origin.substr(scheme + 3), request.header("Host"));
}

std::optional<ApiError> Access::refusal(const HttpRequest& request, bool open) const {
  if (!host_is_right(request.header("Host")))
    return ApiError{403,
                    "this server is not called by the name in the Host header; allowed_hosts "
                    "lists more names",
                    "", "host_not_allowed", 0};
  if (!origin_is_right(request))
    return ApiError{403,
                    "pages of this origin may not call this server; cors_origins lists those "
                    "that may",
                    "", "origin_not_allowed", 0};
  if (!open && !key_is_right(request))
    return ApiError{401, "a valid API key is needed: Authorization: Bearer KEY", "",
                    "invalid_api_key", 0};
  return std::nullopt;
}

bool Access::is_listed(const HttpRequest& request) const {
  const std::string_view origin = request.header("Origin");
  return !origin.empty() && origin_is_listed(origin);
}

std::vector<HttpHeader> Access::cors_headers(const HttpRequest& request) const {
  const std::string_view origin = request.header("Origin");
  if (origins_.empty()) return {};
  if (origin.empty() || !origin_is_listed(origin)) return {{"Vary", "Origin"}};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Vary", "Origin"},
          {"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"}};
}

}  // namespace llama2zh
