// Parts of HTTP messages: names without case, codings (RFC 9110, 12.5.3), percent escapes (RFC 3986), queries.
#include "llama2zh/http/message.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdlib>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view HttpRequest::header(std::string_view name) const {
  for (const HttpHeader& entry : headers)
    if (equal_ignoring_case(entry.name, name)) return entry.value;
  return {};
}

bool is_loopback_host(std::string_view host) {
  in_addr address{};
  if (::inet_pton(AF_INET, std::string(host).c_str(), &address) == 1)
    return (ntohl(address.s_addr) >> 24) == 127;
  return equal_ignoring_case(host, "localhost") || host == "::1" || host == "[::1]";
}

bool accepts_coding(std::string_view header, std::string_view coding) {
  bool by_star = false;
  for (const std::string& entry : split(std::string(header), ',')) {
    const std::vector<std::string> parts = split(entry, ';');
    double quality = 1;
    for (size_t i = 1; i < parts.size(); ++i) {
      const std::string_view parameter = trim(parts[i]);
      if (equal_ignoring_case(parameter.substr(0, 2), "q="))
        quality = std::strtod(std::string(parameter.substr(2)).c_str(), nullptr);
    }
    const std::string_view name = trim(parts.front());
    if (equal_ignoring_case(name, coding)) return quality > 0;
    if (name == "*") by_star = quality > 0;
  }
  return by_star;
}

bool decode_percent(std::string_view text, std::string& out) {
  out.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || high * 16 + low == 0) return false;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

std::string query_value(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) != key) continue;
    std::string value;
    return decode_percent(pair.substr(std::min(pair.size(), equals + 1)), value) ? value : "";
  }
  return "";
}

}  // namespace llama2zh
