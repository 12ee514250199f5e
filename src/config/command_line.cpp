// arguments.cpp writes the arguments plainly; cxxopts, which learns the option table at run time, finds
// the options in them; then the config file and the command line are applied, in that order. Every
// option is one text to cxxopts, a list a repeated one: its own lists would be split at commas.
#include "llama2zh/config/command_line.h"

#include <algorithm>
#include <cstdio>
#include <cxxopts.hpp>
#include <map>

#include "config/arguments.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr const char* kSource = "command line";

using OptionTexts = std::map<std::string, std::vector<std::string>>;

// What cxxopts quotes in an error, as an option: its exceptions give the name in no other way.
std::string flag_in(const std::string& message) {
  const size_t from = message.find(cxxopts::LQUOTE) + cxxopts::LQUOTE.size();
  const std::string quoted = message.substr(from, message.rfind(cxxopts::RQUOTE) - from);
  return quoted.starts_with("-") ? quoted : "--" + quoted;
}

cxxopts::ParseResult run_cxxopts(const OptionTable& options, const std::vector<std::string>& args) {
  cxxopts::Options known("llama2zh");
  for (const OptionEntry& entry : options) {
    const bool letter = entry.key.size() == 1;
    const cxxopts::OptionNames long_names(letter ? 0 : 1, entry.key);
    known.add_option("", letter ? entry.key : "", long_names, "", cxxopts::value<std::string>(),
                     "");
  }
  const PlainArguments plain = plain_arguments(options, args);
  std::vector<const char*> argv = {"llama2zh"};
  for (const std::string& word : plain.words) argv.push_back(word.c_str());
  try {
    return known.parse(static_cast<int>(argv.size()), argv.data());
  } catch (const cxxopts::exceptions::missing_argument& e) {
    const std::string flag = flag_in(e.what());
    std::vector<std::string> remedies;
    if (plain.more_follow)
      remedies.push_back(cat("write ", flag, "=VALUE for a value that begins with dashes"));
    const OptionEntry* entry = find_option(options, std::string_view(flag).substr(2));
    if (entry != nullptr && entry->is_list)
      remedies.push_back(cat("write ", flag, "= for the empty list"));
    fail_usage(flag, "expected a value", join(remedies, ", or "));
  } catch (const cxxopts::exceptions::parsing& e) {
    const std::string flag = flag_in(e.what());
    const std::string remedy = did_you_mean(options, flag.substr(2));
    fail_usage(flag, "unknown option", remedy.empty() ? "--help lists the options" : remedy);
  }
}

void store(const OptionEntry& entry, const std::string& value, OptionTexts& texts) {
  std::vector<std::string>& values = texts[entry.key];
  if (!entry.is_list && !values.empty()) fail_usage("--" + entry.key, "given twice");
  values.push_back(value);
}

// The values of each option that was given, positional arguments included.
OptionTexts collect(const CommandSpec& spec, const OptionTable& options,
                    const std::vector<std::string>& args) {
  const cxxopts::ParseResult parsed = run_cxxopts(options, args);
  OptionTexts texts;
  for (const cxxopts::KeyValue& given : parsed.arguments()) {
    store(*find_option(options, given.key()), given.value(), texts);
  }
  // Not by parse_positional(): it skips an option that was given by name.
  size_t position = 0;
  for (const std::string& arg : parsed.unmatched()) {
    if (position == spec.positional.size()) {
      fail_usage(arg, "unexpected argument", "--help shows the usage");
    }
    const OptionEntry* entry = find_option(options, spec.positional[position]);
    if (entry == nullptr) fail_usage(spec.positional[position], "not an option of this verb");
    store(*entry, arg, texts);
    if (!entry->is_list) ++position;  // a list is the last one: it takes all the rest
  }
  return texts;
}

// The verb's options and --config, which has no place among the values.
OptionTable with_config_option(const CommandSpec& spec, OptionTable options) {
  if (spec.config_file) options.push_back({.key = "config", .type = "text"});
  return options;
}

std::string take_config_path(const CommandSpec& spec, OptionTexts& texts) {
  const auto found = texts.find("config");
  if (!spec.config_file || found == texts.end()) return {};
  std::string path = found->second[0];
  if (path.empty()) fail_usage("--config", "expected a file");
  texts.erase(found);
  return path;
}

CommandLine apply(const CommandSpec& spec, const OptionTable& options, OptionTexts texts) {
  CommandLine line;
  line.config_path = take_config_path(spec, texts);
  for (const OptionEntry& entry : options) line.provenance[entry.key] = "default";
  if (!line.config_path.empty()) load_config_file(options, line.config_path, line.provenance);
  for (const auto& [key, values] : texts) {
    set_from_text(options, key, values, kSource, line.provenance);
  }
  for (const std::string& key : spec.required) {
    if (line.provenance[key] != "default") continue;
    const OptionEntry* entry = find_option(options, key);
    fail_usage(spec.verb, cat("--", key, " is required"),
               entry != nullptr ? cat("it is: ", entry->doc) : "");
  }
  check_values(options, line.provenance);
  return line;
}

}  // namespace

CommandLine parse_command_line(const CommandSpec& spec, const OptionTable& options,
                               const std::vector<std::string>& args) {
  const auto end = std::find(args.begin(), args.end(), "--");
  const bool help = std::any_of(args.begin(), end,
                                [](const std::string& a) { return a == "--help" || a == "-h"; });
  if (help) {
    std::fputs(help_text(spec, options).c_str(), stdout);
    return {.help = true, .config_path = {}, .provenance = {}};
  }
  return apply(spec, options, collect(spec, with_config_option(spec, options), args));
}

}  // namespace llama2zh
