#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace llama2zh {

enum class ErrorKind {
  kUsage,   // the command line or a config value: exit code 2
  kData,    // a row, a text, a prompt
  kFormat,  // a file that is not what it claims to be
  kIo,      // the operating system said no
};

// The one exception type of the project. Its text is `where: problem; remedy`: `where` names the
// file (with line and column where they are known), the key or the flag; `problem` says what is
// wrong and what was expected; `remedy`, which may be empty, what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string_view where, std::string_view problem,
        std::string_view remedy = {});

  ErrorKind kind() const { return kind_; }
  int exit_code() const { return kind_ == ErrorKind::kUsage ? 2 : 1; }

 private:
  ErrorKind kind_;
};

[[noreturn]] void fail_usage(std::string_view where, std::string_view problem,
                             std::string_view remedy = {});
[[noreturn]] void fail_data(std::string_view where, std::string_view problem,
                            std::string_view remedy = {});
[[noreturn]] void fail_format(std::string_view where, std::string_view problem,
                              std::string_view remedy = {});
// Appends the text of `error_number` (an errno value) unless it is 0.
[[noreturn]] void fail_io(std::string_view where, std::string_view problem, int error_number = 0);

}  // namespace llama2zh
