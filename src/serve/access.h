#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/http/message.h"
#include "llama2zh/serve/serve_config.h"
#include "serve/api_error.h"

namespace llama2zh {

// Who may ask: API keys, names in Host headers, origins of pages. Immutable, so thread-safe.
class Access {
 public:
  // Reads the key file and LLAMA2ZH_API_KEYS. kUsage for a file without a key. `host`: the address
  // listened at.
  Access(const ServeConfig& config, const std::string& host);

  // What is wrong with the request, if anything. `open`: it needs no key.
  std::optional<ApiError> refusal(const HttpRequest& request, bool open) const;
  // Of an answer to a page of this origin.
  std::vector<HttpHeader> cors_headers(const HttpRequest& request) const;
  bool is_listed(const HttpRequest& request) const;  // its origin is among cors_origins
  bool wants_keys() const { return !digests_.empty(); }

 private:
  bool key_is_right(const HttpRequest& request) const;
  bool host_is_right(std::string_view host) const;
  bool origin_is_right(const HttpRequest& request) const;
  bool origin_is_listed(std::string_view origin) const;

  std::vector<std::string> digests_;  // sha256 of the keys, so that comparing takes equally long
  std::vector<std::string> hosts_, origins_;
  bool on_loopback_ = false;
};

}  // namespace llama2zh
