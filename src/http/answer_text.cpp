// Heads of answers, written by Beast.
#include "http/answer_text.h"

#include <algorithm>
#include <ctime>
#include <sstream>

#include "http/asio.h"

namespace llama2zh {
namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  const size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, size};
}

std::string one_line(std::string text) {
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 32 && c != '\t'; });
  return text;
}

http::response<http::empty_body> head_of(const HttpResponse& response, unsigned version,
                                         bool keep_alive) {
  http::response<http::empty_body> out;
  out.version(version);
  out.result(static_cast<unsigned>(response.status));
  out.set(http::field::server, "llama2zh");
  out.set(http::field::date, http_date());
  if (!response.content_type.empty())
    out.set(http::field::content_type, one_line(response.content_type));
  for (const HttpHeader& header : response.headers)
    out.insert(one_line(header.name), one_line(header.value));
  out.keep_alive(keep_alive);
  return out;
}

std::string text_of(const http::response<http::empty_body>& message) {
  std::ostringstream out;
  out << message.base();
  return out.str();
}

}  // namespace

std::string whole_head(const HttpResponse& response, unsigned version, bool keep_alive) {
  auto head = head_of(response, version, keep_alive);
  if (response.status != 204 && response.status != 304) head.content_length(response.body.size());
  return text_of(head);
}

std::string stream_head(const HttpResponse& response, unsigned version, bool keep_alive) {
  auto head = head_of(response, version, keep_alive);
  if (version >= 11) head.chunked(true);
  return text_of(head);
}

}  // namespace llama2zh
