// Resuming with other options would silently give a third run that is neither the old one nor the
// new. Compared is what changes the weights; where the data come from is compared by the rows'
// fingerprint, so that moved files are no difference.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/data_differences.h"
#include "llama2zh/train/checkpoint.h"

namespace llama2zh {
namespace {

// Options that leave the weights alone, or whose effect an identity covers.
const std::set<std::string>& free_options() {
  static const std::set<std::string> kFree = {"output_dir",
                                              "overwrite",
                                              "resume",
                                              "resume_from",
                                              "allow_changed",
                                              "plan_only",
                                              "model.path",
                                              "model.tokenizer",
                                              "model.device",
                                              "model.peft_path",
                                              "model.allow_other_base",
                                              "data.train_files",
                                              "data.validation_files",
                                              "data.validation_split",
                                              "data.field",
                                              "data.format",
                                              "data.system",
                                              "data.overlong",
                                              "data.skip_bad_rows",
                                              "data.max_rows",
                                              "data.mixture",
                                              "data.cache_dir",
                                              "data.txt_documents",
                                              "data.deduplicate",
                                              "data.min_characters",
                                              "data.max_characters",
                                              "data.threads",
                                              "data.prefetch",
                                              "lora.init",
                                              "train.stop_at_step",
                                              "train.max_minutes",
                                              "train.max_nonfinite_steps",
                                              "train.load_best_model_at_end",
                                              "train.early_stopping_patience",
                                              "train.early_stopping_threshold",
                                              "train.sample_prompts",
                                              "train.sample_steps",
                                              "train.sample_max_new_tokens",
                                              "train.merge_final",
                                              "distributed.timeout_seconds",
                                              "distributed.zero_stage",
                                              "distributed.offload_optimizer",
                                              "train.gradient_checkpointing",
                                              "train.head_chunk_rows",
                                              "train.logging_steps",
                                              "train.report_to",
                                              "train.peak_tflops",
                                              "train.profile",
                                              "train.profile_steps",
                                              "train.eval_steps",
                                              "train.guard_set",
                                              "train.guard_budget",
                                              "train.guard_action",
                                              "train.save_steps",
                                              "train.save_total_limit",
                                              "train.save_in_background",
                                              "train.save_dtype"};
  return kFree;
}

void flatten(const ordered_json& value, const std::string& prefix,
             std::map<std::string, std::string>& out) {
  for (const auto& [key, item] : value.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (item.is_object()) {
      flatten(item, name, out);
    } else {
      out[name] = item.dump();
    }
  }
}

constexpr const char* kAccumulation = "train.gradient_accumulation_steps";

std::map<std::string, std::string> compared(const TrainingState& state) {
  std::map<std::string, std::string> options;
  flatten(state.config, "", options);
  const bool full = options["method"] == "\"full\"";
  std::erase_if(options, [&](const auto& option) {
    return free_options().count(option.first) != 0 || (full && option.first.starts_with("lora."));
  });
  flatten(state.identity, "", options);
  options.erase("ranks");  // counts in StepSize
  return options;
}

// What counts is the number of micro-batches that make a step, on however many ranks.
struct StepSize {
  int64_t accumulation = 1, ranks = 1;
  int64_t micro_batches() const { return accumulation * ranks; }
  std::string text() const {
    return cat(accumulation, " on ", ranks, ranks == 1 ? " rank" : " ranks");
  }
};

std::optional<StepSize> step_size(const TrainingState& state) {
  const ordered_json::json_pointer accumulation("/train/gradient_accumulation_steps");
  if (!state.config.contains(accumulation)) return std::nullopt;
  const ordered_json& steps = state.config.at(accumulation);
  if (!steps.is_number_integer()) return std::nullopt;
  return StepSize{steps.get<int64_t>(), state.identity.value("ranks", int64_t{1})};
}

// The line about kAccumulation; "" if steps are as large as they were.
std::string step_difference(const StepSize& before, const StepSize& now) {
  const int64_t whole = before.micro_batches();
  if (whole == now.micro_batches()) return {};
  if (before.ranks == now.ranks) {
    return cat(kAccumulation, ": ", before.accumulation, " in the checkpoint, ", now.accumulation,
               " now");
  }
  const bool divides = whole % now.ranks == 0;
  const std::string remedy =
      divides ? cat(StepSize{whole / now.ranks, now.ranks}.text(), " keeps the mathematics")
              : cat("no number on ", now.ranks, " ranks makes ", whole);
  return cat(kAccumulation, ": the number of ranks changed: ", before.text(),
             " in the checkpoint, ", now.text(), " now (micro-batches in a step: ", whole, " and ",
             now.micro_batches(), "); ", remedy);
}

std::string value_or(const std::map<std::string, std::string>& options, const std::string& key) {
  const auto found = options.find(key);
  return found == options.end() ? "unset" : found->second;
}

}  // namespace

std::vector<std::string> changed_options(const TrainingState& saved, const TrainingState& now,
                                         const std::vector<std::string>& allowed) {
  const auto before = compared(saved), after = compared(now);
  std::vector<std::string> keys;
  for (const auto& [key, value] : after) keys.push_back(key);
  for (const auto& [key, value] : before) {
    if (after.count(key) == 0) keys.push_back(key);
  }
  for (const std::string& name : allowed) {
    if (std::find(keys.begin(), keys.end(), name) != keys.end()) continue;
    const std::string near = nearest(name, keys);
    fail_usage("allow_changed", cat("'", name, "' is not an option that is compared on resuming"),
               near.empty() ? "" : cat("did you mean ", near, "?"));
  }
  std::vector<std::string> lines;
  const std::optional<StepSize> step_before = step_size(saved), step_now = step_size(now);
  for (const std::string& key : keys) {
    if (std::find(allowed.begin(), allowed.end(), key) != allowed.end()) continue;
    if (key == kAccumulation && step_before && step_now) {
      const std::string line = step_difference(*step_before, *step_now);
      if (!line.empty()) lines.push_back(line);
      continue;
    }
    if (value_or(before, key) == value_or(after, key)) continue;
    const std::vector<std::string> differences =
        key == "data" ? data_differences(saved.data, now.data) : std::vector<std::string>();
    for (const std::string& difference : differences) lines.push_back(cat(key, ": ", difference));
    if (!differences.empty()) continue;
    lines.push_back(cat(key, ": ", value_or(before, key), " in the checkpoint, ",
                        value_or(after, key), " now"));
  }
  return lines;
}

}  // namespace llama2zh
