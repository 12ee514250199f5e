#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "llama2zh/config/command_line.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// The arguments of pretrain, sft or dpo, and how they change when its ranks are started again: what was
// trained so far is resumed, never overwritten.
class RestartArguments {
 public:
  // Parses `args`: kUsage for what the verb itself would refuse.
  RestartArguments(const CommandSpec& spec, std::vector<std::string> args);

  bool help() const { return line_.help; }  // --help was asked for and printed
  const RunConfig& config() const { return config_; }
  // The first start's are the user's own. Later ones take the newest whole checkpoint; as long as
  // there is none of this run, a run that was told to overwrite does so again, another begins anew.
  std::vector<std::string> at_start(int64_t restart) const;

 private:
  bool has_own_checkpoint() const;
  std::vector<std::string> args_;
  RunConfig config_;
  CommandLine line_;
  std::set<std::string> earlier_runs_;  // in the output folder before the first start
};

// `args` without the option `key` in any of its spellings, and without its value.
std::vector<std::string> without_option(const OptionTable& options,
                                        const std::vector<std::string>& args,
                                        const std::string& key);

}  // namespace llama2zh
