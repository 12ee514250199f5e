#include "commands/restart_arguments.h"

#include <algorithm>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/train/checkpoint.h"

namespace llama2zh {
namespace {

// "" where the folder is not a checkpoint that can be read.
std::string run_of(const std::filesystem::path& checkpoint) {
  try {
    return has_manifest(checkpoint) ? read_training_state(checkpoint).run_id : "";
  } catch (const Error&) {
    return "";
  }
}

// The option that an argument names, also as --no-KEY; null if it is none.
const OptionEntry* option_of(const OptionTable& options, const std::string& arg) {
  if (arg.size() < 3 || !arg.starts_with("--")) return nullptr;
  const std::string name = arg.substr(2, arg.find('=') - 2);
  const OptionEntry* entry = find_named_option(options, name);
  const bool negated = name.starts_with("no-") || name.starts_with("no_");
  if (entry == nullptr && negated) entry = find_named_option(options, name.substr(3));
  return entry;
}

}  // namespace

std::vector<std::string> without_option(const OptionTable& options,
                                        const std::vector<std::string>& args,
                                        const std::string& key) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--") {
      rest.insert(rest.end(), args.begin() + static_cast<std::ptrdiff_t>(i), args.end());
      break;
    }
    const OptionEntry* entry = option_of(options, args[i]);
    if (entry == nullptr || entry->key != key) {
      rest.push_back(args[i]);
      continue;
    }
    if (args[i].find('=') != std::string::npos || i + 1 == args.size()) continue;
    const bool truth = args[i + 1] == "true" || args[i + 1] == "false";
    if (truth || !entry->is_boolean) ++i;
  }
  return rest;
}

RestartArguments::RestartArguments(const CommandSpec& spec, std::vector<std::string> args)
    : args_(std::move(args)) {
  const OptionTable options = bind_options(config_);
  line_ = parse_command_line(spec, options, args_);
  if (line_.help || !config_.overwrite) return;
  for (const CheckpointEntry& entry : list_checkpoints(config_.output_dir)) {
    earlier_runs_.insert(run_of(entry.path));
  }
}

bool RestartArguments::has_own_checkpoint() const {
  const std::vector<CheckpointEntry> entries = list_checkpoints(config_.output_dir);
  return std::any_of(entries.begin(), entries.end(), [&](const CheckpointEntry& entry) {
    const std::string run = run_of(entry.path);
    return !run.empty() && earlier_runs_.count(run) == 0;
  });
}

std::vector<std::string> RestartArguments::at_start(int64_t restart) const {
  if (restart == 0 || config_.resume || (config_.overwrite && !has_own_checkpoint())) return args_;
  RunConfig config;
  const OptionTable options = bind_options(config);
  std::vector<std::string> args = args_;
  for (const char* key : {"resume", "resume_from", "overwrite"})
    args = without_option(options, args, key);
  std::vector<std::string> added = {"--resume"};
  // The config file's own values.
  if (config_.overwrite) added.emplace_back("--no-overwrite");
  if (!config_.resume_from.empty()) added.emplace_back("--resume-from=");
  args.insert(args.begin(), added.begin(), added.end());
  return args;
}

}  // namespace llama2zh
