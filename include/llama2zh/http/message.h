#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

struct HttpHeader {
  std::string name, value;
};

struct HttpRequest {
  std::string method;  // "GET"
  std::string target;  // as it came: "/v1/models?x=1"
  std::string path;    // decoded, without the query: "/v1/models"
  std::string query;   // not decoded
  std::vector<HttpHeader> headers;
  std::string body;
  std::string remote;  // "127.0.0.1:51234"
  // The client's X-Request-Id where it is one, else a new one. Goes back with the answer.
  std::string id;
  std::chrono::steady_clock::time_point arrived;  // the first of it

  // The first of this name (any case); "" if there is none.
  std::string_view header(std::string_view name) const;
};

// Content-Length, Date, Server and Connection are the server's own.
struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<HttpHeader> headers;
};

// 1 to 64 letters, digits, - and _.
bool is_request_id(std::string_view text);
bool equal_ignoring_case(std::string_view a, std::string_view b);
// "localhost", an address of 127.0.0.0/8, or ::1 (also in brackets). A name that only begins so is none.
bool is_loopback_host(std::string_view host);
// Whether an Accept-Encoding header lets an answer be coded so: it is named, or * is, and not with q=0.
bool accepts_coding(std::string_view header, std::string_view coding);
// %41 -> A; false where an escape is broken or stands for a zero byte.
bool decode_percent(std::string_view text, std::string& out);
// The value of `key` in "a=1&b=2", decoded; "" if there is none.
std::string query_value(std::string_view query, std::string_view key);

}  // namespace llama2zh
