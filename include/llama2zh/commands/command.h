#pragma once

#include <string>
#include <vector>

namespace llama2zh {

// One verb of the program. run() gets the arguments after the verb and returns the exit code; errors are thrown as Error and
// reported by main.
struct Command {
  const char* name;     // "generate", "evaluate perplexity"
  const char* summary;  // one line, shown by `llama2zh --help`
  int (*run)(const std::vector<std::string>& args);
};

// The explicit table of verbs, in the order of the help text. One file a verb: src/commands/<verb>.cpp.
const std::vector<Command>& commands();

// `llama2zh ARGS...`: --help, --version, or a verb of one or two words. kUsage error with the nearest verb for an unknown one.
int run_command_line(const std::vector<std::string>& args);

}  // namespace llama2zh
