#include "serve/page_response.h"

#include <string>

#include "llama2zh/serve/page_files.h"

namespace llama2zh {

std::optional<HttpResponse> page_response(const HttpRequest& request) {
  const PageFile* file = find_page_file(request.path);
  if (file == nullptr) return std::nullopt;
  HttpResponse out;
  out.content_type = std::string(file->content_type);
  out.headers.push_back({"ETag", std::string(file->etag)});
  out.headers.push_back({"Content-Security-Policy", std::string(kPageContentSecurityPolicy)});
  for (const auto& [name, value] : kPageHeaders)
    out.headers.push_back({std::string(name), std::string(value)});
  if (request.header("If-None-Match").find(file->etag) != std::string_view::npos) {
    out.status = 304;
    return out;
  }
  if (!file->gzip.empty() && accepts_coding(request.header("Accept-Encoding"), "gzip")) {
    out.headers.push_back({"Content-Encoding", "gzip"});
    out.body = std::string(file->gzip);
  } else {
    out.body = std::string(file->bytes);
  }
  return out;
}

}  // namespace llama2zh
