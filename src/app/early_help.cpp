// `--help` and `--version` before any library's constructors have run. Those of libtorch register some
// thousand operators, a tenth of a second that a page of text does not need; functions in
// .preinit_array come before them (System V ABI, Initialization and Termination Functions). All code
// that writes help works then: it has no globals that need a constructor of their own, and libc's and
// libstdc++'s parts that it uses set themselves up when they are first called. Where it throws (a verb
// that there is not), nothing was printed, and main() does the same again.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ios>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/commands/command.h"

namespace {

// As run_command_line() and parse_command_line() see it: `--version` is one only in front, a value
// elsewhere.
bool asks_for_text(const std::vector<std::string>& args) {
  if (args.empty() || args.front() == "help" || args.front() == "--version") return true;
  const auto end = std::find(args.begin(), args.end(), "--");
  return std::any_of(args.begin(), end,
                     [](std::string_view word) { return word == "--help" || word == "-h"; });
}

void help_early(int argc, char** argv, char**) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (!asks_for_text(args)) return;
  static const std::ios_base::Init streams;  // std::cout, which is flushed
  try {
    const int code = llama2zh::run_command_line(args);
    if (std::fflush(stdout) == 0) std::_Exit(code);
  } catch (...) {  // main() says what it is
  }
}

[[gnu::section(".preinit_array"), gnu::used]] void (*const help_first)(int, char**,
                                                                       char**) = help_early;

}  // namespace
