// What pretrain, sft and dpo share.
#include "commands/training_verb.h"

#include <chrono>
#include <functional>
#include <thread>

#include "llama2zh/base/diverged.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/load.h"
#include "llama2zh/distributed/rank_environment.h"
#include "llama2zh/engine/generator.h"
#include "llama2zh/train/recipe.h"

namespace llama2zh {
namespace {

std::string answer_greedily(const Llama& model, const Tokenizer& tokenizer,
                            const SampleRequest& request) {
  SamplingConfig greedy;
  greedy.temperature = 0;
  greedy.max_new_tokens = request.max_new_tokens;
  return Generator(model, tokenizer)
      .generate(request.prompt, greedy, request.stops,
                [&](std::string_view) { return !request.stop(); })
      .text;
}

// dpo reads pairs and nothing else does.
void settle_format(std::string& format, bool preference) {
  if (preference && format == "auto") format = "preference";
  if (preference == (format == "preference")) return;
  if (preference) {
    fail_usage("data.format", cat("rows of the form ", format, " are no pairs of answers"),
               "expected auto or preference; for dialogues use `llama2zh sft`");
  }
  fail_usage("data.format", "pairs of answers are tuned on by `llama2zh dpo`");
}

// The keys of lora.* that were set to something else than their defaults, from where `from` holds.
std::vector<std::string> lora_settings(const OptionTable& options, const Provenance& provenance,
                                       const std::function<bool(const std::string&)>& from) {
  RunConfig defaults;
  const OptionTable default_options = bind_options(defaults);
  std::vector<std::string> keys;
  for (const OptionEntry& entry : options) {
    if (!entry.key.starts_with("lora.")) continue;
    const bool set = entry.get() != find_option(default_options, entry.key)->get();
    if (set && from(provenance.at(entry.key))) keys.push_back(entry.key);
  }
  return keys;
}

// Method full has no adapter. A file for LoRA may be trained from in full by --method full, as far as
// its own lora section goes; what was asked for in one breath with it is refused.
void settle_lora(RunConfig& config, const OptionTable& options, const CommandLine& line) {
  if (config.method != "full") return;
  constexpr const char* kCommandLine = "command line";
  const bool method_of_file = line.provenance.at("method") != kCommandLine;
  const std::vector<std::string> refused = lora_settings(
      options, line.provenance,
      [&](const std::string& source) { return method_of_file || source == kCommandLine; });
  if (!refused.empty()) {
    fail_usage(
        refused.front(),
        cat("does not go with method full, which has no adapter (set: ", join(refused, ", "), ")"),
        "leave it out, or set method to lora");
  }
  const std::vector<std::string> ignored =
      lora_settings(options, line.provenance, [](const std::string&) { return true; });
  if (ignored.empty()) return;
  log_info(cat("method full has no adapter: ", join(ignored, ", "), " of ", line.config_path,
               ignored.size() == 1 ? " does not count" : " do not count"));
  config.lora = LoraConfig();
}

int train(const CommandSpec& spec, RowKind kind, const std::vector<std::string>& args,
          bool preference) {
  RunConfig config;
  const OptionTable options = bind_options(config);
  const CommandLine line = parse_command_line(spec, options, args);
  if (line.help) return 0;
  settle_lora(config, options, line);
  settle_format(config.data.format, preference);
  run_training(config, kind, answer_greedily);
  return 0;
}

// What is wrong with a run is found by each of its ranks. Rank 0 says it; the launcher, or mpirun,
// then ends the others, which say what they have found only if that does not happen.
bool ended_by_first_rank() {
  constexpr std::chrono::milliseconds kPatience{2000}, kPoll{20};
  if (stop_requested()) return false;  // that was for the run, not for this error
  install_stop_signals();
  for (std::chrono::milliseconds waited{0}; waited < kPatience; waited += kPoll) {
    if (stop_requested()) return true;
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

}  // namespace

int run_training_verb(const CommandSpec& spec, RowKind kind, const std::vector<std::string>& args,
                      bool preference) {
  try {
    return train(spec, kind, args, preference);
  } catch (const Error& error) {
    const int64_t rank = read_rank_environment().rank;
    if (rank == 0) throw;
    const bool diverged = dynamic_cast<const Diverged*>(&error) != nullptr;
    if (ended_by_first_rank()) return diverged ? Diverged::kExitCode : error.exit_code();
    const std::string name = cat("rank ", rank), text = error.what();
    const std::string where = text.starts_with(name) ? "" : name;
    if (diverged) throw Diverged(where, text);
    throw Error(error.kind(), where, text);
  }
}

}  // namespace llama2zh
