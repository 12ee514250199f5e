#pragma once

#include <string>
#include <vector>

#include "llama2zh/config/option.h"

namespace llama2zh {

// A command line in the one form that cxxopts reads without looking into values: "--key" and its
// value as the next argument, then "--" and the positional arguments.
struct PlainArguments {
  std::vector<std::string> words;
  // Off where an option is unknown or its value missing: it is the last word, for cxxopts to report.
  bool complete = false;
  bool more_follow = false;  // not complete, and arguments come after that option
};

// What cxxopts has no form for becomes what it has: '-' is '_' in keys, --flag and --no-flag get
// true and false, `--list a b` is one option each, "--key=value" is taken apart (cxxopts' regular
// expression for it ends at a line break and recurses once per byte). Throws kUsage for "-x" and for
// a wrong --no-flag.
PlainArguments plain_arguments(const OptionTable& options, const std::vector<std::string>& args);

// "--key"; cxxopts writes keys of one letter with one dash.
std::string cxxopts_flag(const OptionEntry& entry);

}  // namespace llama2zh
