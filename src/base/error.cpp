// The text of an error is composed here and nowhere else: `where: problem; remedy`.
#include "llama2zh/base/error.h"

#include <system_error>

namespace llama2zh {
namespace {

std::string error_text(std::string_view where, std::string_view problem, std::string_view remedy) {
  std::string text(where);
  if (!text.empty()) text += ": ";
  text += problem;
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
    // std::generic_category, unlike strerror, is safe with threads.
    text += ": " + std::generic_category().message(error_number);
  }
  throw Error(ErrorKind::kIo, where, text);
}

}  // namespace llama2zh
