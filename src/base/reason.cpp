#include "llama2zh/base/reason.h"

#include <system_error>

namespace llama2zh {

std::string system_reason(int error_number) {
  // std::generic_category, unlike strerror, is safe with threads.
  std::string reason = std::generic_category().message(error_number);
  const bool word = reason.size() > 1 && reason[1] >= 'a' && reason[1] <= 'z';
  if (word && reason[0] >= 'A' && reason[0] <= 'Z') reason[0] = static_cast<char>(reason[0] | 0x20);
  return reason;
}

std::string library_reason(std::string_view what) {
  // "[../third_party/gloo/pair.cc:534] Connection closed"
  if (what.starts_with('[')) {
    const size_t end = what.find("] ");
    const std::string_view place = what.substr(0, end);
    const size_t colon = place.rfind(':');
    const bool is_place = end != std::string_view::npos && colon != std::string_view::npos &&
                          place.substr(0, colon).find('.') != std::string_view::npos &&
                          place.find(' ') == std::string_view::npos;
    if (is_place) what.remove_prefix(end + 2);
  }
  what = what.substr(0, what.find("\nException raised from "));
  what = what.substr(0, what.find("\nframe #0"));
  what = what.substr(0, what.find(". This is typically caused by"));  // Gloo's advice
  while (!what.empty() && (what.back() == '\n' || what.back() == ' ')) what.remove_suffix(1);
  return std::string(what);
}

}  // namespace llama2zh
