// The text of an error is composed here and nowhere else: `where: problem; remedy`.
#include "llama2zh/base/error.h"

#include <algorithm>

#include "llama2zh/base/reason.h"

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
