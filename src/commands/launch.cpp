// llama2zh launch: one training process a device, started and watched over.
#include "llama2zh/distributed/launch.h"

#include <ATen/Context.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "commands/restart_arguments.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {
namespace {

// Help reads it before constructors have run.
const std::vector<std::string>& launched_verbs() {
  static const std::vector<std::string> names = {"pretrain", "sft", "dpo"};
  return names;
}

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

// The cores that this process may use.
int64_t core_count() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return std::max(1U, std::thread::hardware_concurrency());
}

// This very program, also when a build has put another in its place meanwhile.
std::string own_program() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  const bool there = !error && std::filesystem::equivalent(path, "/proc/self/exe", error);
  return there ? path.string() : "/proc/self/exe";
}

void check_launched_verb(const std::vector<std::string>& words) {
  if (words.empty()) {
    fail_usage("launch", "there is no verb to start",
               "write it behind two dashes: launch --nproc-per-node 2 -- pretrain --config F");
  }
  if (std::count(launched_verbs().begin(), launched_verbs().end(), words[0]) != 0) return;
  fail_usage(words[0], "not a verb that several processes share",
             cat("expected ", join(launched_verbs(), " or ")));
}

// Without the dashes the verb's options would be taken for the launcher's.
void check_dashes(const std::vector<std::string>& args) {
  for (const std::string& verb : launched_verbs()) {
    if (std::find(args.begin(), args.end(), verb) == args.end()) continue;
    fail_usage("launch", cat("there are no two dashes before ", verb),
               cat("write llama2zh launch OPTIONS -- ", verb, " ITS OPTIONS"));
  }
}

void check_devices(const LaunchConfig& config, const LaunchPlan& plan, const RunConfig& run,
                   int64_t gpus) {
  if (run.model.device == "cpu" || gpus == 0) return;
  if (!at::hasCUDA()) {
    if (config.nproc_per_node != "auto" && run.model.device == "auto") return;
    fail_usage("--nproc-per-node", cat(gpus, " GPUs are visible, but this build has no CUDA"),
               "build with scripts/build.sh --cuda, or pass a number and --model.device cpu");
  }
  if (plan.processes > gpus) {
    fail_usage("--nproc-per-node", cat(plan.processes, " processes, but ", gpus, " visible GPUs"),
               "one process a GPU, or --model.device cpu");
  }
}

CommandSpec launch_spec() {
  CommandSpec spec;
  spec.verb = "launch";
  spec.summary =
      "Starts a training verb once for each device (`launch OPTIONS -- VERB ...`), with torchrun's "
      "variables, and watches over the processes: when one fails the others are ended, and all "
      "are started again from the last checkpoint while --max-restarts allows it.";
  spec.examples = {
      "CUDA_VISIBLE_DEVICES=2,3 llama2zh launch -- pretrain --config configs/pretrain_7b.json",
      "llama2zh launch --nproc-per-node 8 --max-restarts 3 -- sft --config configs/sft_7b.json",
      "llama2zh launch --nnodes 2 --node-rank 0 --master-addr 10.0.0.1 -- pretrain --config F"};
  return spec;
}

}  // namespace

int run_launch(const std::vector<std::string>& args) {
  const auto dashes = std::find(args.begin(), args.end(), "--");
  const std::vector<std::string> verb(dashes == args.end() ? dashes : dashes + 1, args.end());
  if (dashes == args.end()) check_dashes(args);
  LaunchConfig config;
  const OptionTable options = bind_options(config);
  if (parse_command_line(launch_spec(), options, {args.begin(), dashes}).help) return 0;

  const int64_t gpus = count_visible_gpus(variable, "/dev");
  if (!config.program.empty()) {
    const LaunchPlan plan = plan_launch(config, variable, gpus, core_count());
    std::vector<std::string> command = {config.program};
    command.insert(command.end(), verb.begin(), verb.end());
    return launch_ranks(plan, config, [&](int64_t) { return command; });
  }
  check_launched_verb(verb);
  CommandSpec spec;
  spec.verb = verb[0];
  spec.config_file = true;
  const RestartArguments arguments(spec, {verb.begin() + 1, verb.end()});
  if (arguments.help()) return 0;
  const LaunchPlan plan = plan_launch(config, variable, gpus, core_count());
  check_devices(config, plan, arguments.config(), gpus);
  return launch_ranks(plan, config, [&](int64_t restart) {
    std::vector<std::string> command = arguments.at_start(restart);
    command.insert(command.begin(), {own_program(), verb[0]});
    return command;
  });
}

}  // namespace llama2zh
