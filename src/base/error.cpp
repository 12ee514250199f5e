// The text of an error is composed here and nowhere else: `where: problem; remedy`.
#include "llama2zh/base/error.h"

#include <algorithm>
#include <system_error>

namespace llama2zh {
namespace {

constexpr size_t kLongestProblem = 2000;

// Names and values out of a file go into errors: they must neither drown the message nor steer the
// terminal.
std::string shown(std::string_view text) {
  size_t length = std::min(text.size(), kLongestProblem);
  while (length < text.size() && (text[length] & 0xc0) == 0x80) --length;  // no half character
  std::string out;
  for (const char c : text.substr(0, length)) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7f) || c == '\n') {
      out += c;
    } else {
      constexpr const char* kDigits = "0123456789abcdef";
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return length == text.size() ? out : out + " ...";
}

std::string error_text(std::string_view where, std::string_view problem, std::string_view remedy) {
  std::string text = shown(where);
  if (!text.empty()) text += ": ";
  text += shown(problem);
  if (!remedy.empty()) {
    text += "; ";
    text += remedy;
  }
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, std::string_view where, std::string_view problem,
             std::string_view remedy)
    : std::runtime_error(error_text(where, problem, remedy)), kind_(kind) {}

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
  while (!what.empty() && (what.back() == '\n' || what.back() == ' ')) what.remove_suffix(1);
  return std::string(what);
}

void fail_usage(std::string_view where, std::string_view problem, std::string_view remedy) {
  throw Error(ErrorKind::kUsage, where, problem, remedy);
}

void fail_data(std::string_view where, std::string_view problem, std::string_view remedy) {
  throw Error(ErrorKind::kData, where, problem, remedy);
}

void fail_format(std::string_view where, std::string_view problem, std::string_view remedy) {
  throw Error(ErrorKind::kFormat, where, problem, remedy);
}

void fail_io(std::string_view where, std::string_view problem, int error_number) {
  std::string text(problem);
  if (error_number != 0) {
    text += ": " + system_reason(error_number);
  }
  throw Error(ErrorKind::kIo, where, text);
}

}  // namespace llama2zh
