// llama2zh config: the merged configuration of a run with where each value came from; validation;
// defaults; the Markdown of docs/options.md.
#include <algorithm>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {
namespace {

// Help reads it before constructors have run.
const std::vector<std::string>& actions() {
  static const std::vector<std::string> names = {"show", "validate", "defaults", "docs"};
  return names;
}

struct ConfigShowOptions {
  bool json_output = false;
  static auto options() {
    return std::tuple(option("json", &ConfigShowOptions::json_output,
                             "show: a JSON array of {\"key\", \"value\", \"source\"}."));
  }
};

CommandSpec config_spec() {
  return {
      .verb = "config " + join(actions(), "|"),
      .summary =
          "The configuration of pretrain, sft and dpo: show it merged, with where each value came "
          "from; validate it; print the defaults as JSON, or as Markdown (docs).",
      .examples = {"llama2zh config show --config configs/sft_7b.json --train.learning_rate "
                   "1e-5",
                   "llama2zh config validate --config my.json",
                   "llama2zh config defaults > my.json"},
      .config_file = true};
}

[[noreturn]] void fail_unknown_action(const std::string& action) {
  const std::string close = nearest(action, actions());
  fail_usage("config " + action, "no such action",
             close.empty() ? "one of " + join(actions(), ", ") : cat("did you mean ", close, "?"));
}

// --json is the command's own: no key of a configuration.
void check_json_is_no_key(const Provenance& provenance) {
  const auto source = provenance.find("json");
  if (source == provenance.end() || source->second == "default" || source->second == "command line")
    return;
  fail_usage(source->second, "unknown key \"json\"");
}

}  // namespace

int run_config(const std::vector<std::string>& args) {
  const std::string action = args.empty() ? "--help" : args[0];
  const bool help = action == "--help" || action == "-h";
  if (!help && std::find(actions().begin(), actions().end(), action) == actions().end())
    fail_unknown_action(action);
  RunConfig config;
  ConfigShowOptions show;
  const OptionTable table = bind_options(config);
  const OptionTable all =
      help || action == "show" ? join_tables({bind_options(show), table}) : table;
  const auto rest = help ? std::vector<std::string>{"--help"}
                         : std::vector<std::string>(args.begin() + 1, args.end());
  const CommandLine line = parse_command_line(config_spec(), all, rest);
  if (line.help) return 0;
  check_json_is_no_key(line.provenance);
  if (show.json_output) {
    std::puts(describe_values_json(table, line.provenance).dump(2).c_str());
  } else if (action == "show") {
    std::fputs(describe_values(table, line.provenance).c_str(), stdout);
  }
  if (action == "validate")
    std::puts(cat(line.config_path.empty() ? "the defaults" : line.config_path,
                  ": every key and value is valid")
                  .c_str());
  if (action == "defaults") std::puts(to_json(table).dump(2).c_str());
  if (action == "docs") std::fputs(options_markdown(table).c_str(), stdout);
  return 0;
}

}  // namespace llama2zh
