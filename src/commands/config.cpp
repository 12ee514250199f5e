// llama2zh config: the merged configuration of a run with where each value came from; validation;
// defaults; the Markdown of docs/options.md.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {
namespace {

const std::vector<std::string> kActions = {"show", "validate", "defaults", "docs"};

}  // namespace

int run_config(const std::vector<std::string>& args) {
  const std::string action = args.empty() ? "--help" : args[0];
  RunConfig config;
  const OptionTable table = bind_options(config);
  const CommandSpec spec{
      .verb = "config " + join(kActions, "|"),
      .summary =
          "The configuration of pretrain and sft: show it merged, with where each value came from; "
          "validate it; print the defaults as JSON, or as "
          "Markdown (docs).",
      .examples = {"llama2zh config show --config configs/sft_7b.json --train.learning_rate 1e-5",
                   "llama2zh config validate --config my.json",
                   "llama2zh config defaults > my.json"},
      .config_file = true};
  if (action == "--help" || action == "-h") {
    parse_command_line(spec, table, {"--help"});
    return 0;
  }
  if (std::find(kActions.begin(), kActions.end(), action) == kActions.end()) {
    const std::string close = nearest(action, kActions);
    fail_usage("config " + action, "no such action",
               close.empty() ? "one of " + join(kActions, ", ") : cat("did you mean ", close, "?"));
  }
  const CommandLine line =
      parse_command_line(spec, table, std::vector<std::string>(args.begin() + 1, args.end()));
  if (line.help) return 0;
  if (action == "show") std::fputs(describe_values(table, line.provenance).c_str(), stdout);
  if (action == "validate")
    std::puts(cat(line.config_path.empty() ? "the defaults" : line.config_path,
                  ": every key and value is valid")
                  .c_str());
  if (action == "defaults") std::puts(to_json(table).dump(2).c_str());
  if (action == "docs") std::fputs(options_markdown(table).c_str(), stdout);
  return 0;
}

}  // namespace llama2zh
