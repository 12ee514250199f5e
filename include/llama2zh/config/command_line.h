#pragma once

#include <string>
#include <vector>

#include "llama2zh/config/load.h"

namespace llama2zh {

// What one verb's command line looks like. Its options are the verb's own option table, so --help,
// parsing and docs can't drift apart. Every verb understands --help.
struct CommandSpec {
  std::string verb;                   // "generate"
  std::string summary;                // one line
  std::vector<std::string> examples;  // whole command lines
  std::vector<std::string>
      positional;  // keys that positional arguments fill in order; the last may be a list
  std::vector<std::string> required;  // keys that must be given
  bool config_file = false;           // --config F is read first, then --a.b value overrides
};

struct CommandLine {
  bool help = false;        // --help was asked for and printed; nothing was parsed or checked
  std::string config_path;  // value of --config
  Provenance provenance;
};

// Parses the arguments after the verb into the bound options: `--key value`, `--key=value`, `--flag`,
// `--no-flag` and `--flag false` for booleans, `--list a b c` or repeated for lists (which replace
// the default); '-' and '_' in keys are the same; `--` ends the options. `--help` or `-h` prints
// help_text() on standard output. With config_file the order is defaults < file < command line.
// Unknown options are kUsage errors with the nearest known one; so are a missing value, an option
// given twice, a required one not given, and any value outside its range.
CommandLine parse_command_line(const CommandSpec& spec, const OptionTable& options,
                               const std::vector<std::string>& args);

// Usage, summary, options grouped by section with type, default and range, examples. Width follows
// the terminal.
std::string help_text(const CommandSpec& spec, const OptionTable& options);

}  // namespace llama2zh
