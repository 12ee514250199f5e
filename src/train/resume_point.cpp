// From which checkpoint a run goes on, and whether it may.
#include "train/resume_point.h"

#include <algorithm>
#include <string>
#include <vector>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

// The folder that was named, if a run can go on from it and nothing newer would shadow it later.
fs::path named_checkpoint(const RunConfig& config) {
  fs::path named = fs::weakly_canonical(config.resume_from);
  const std::vector<CheckpointEntry> entries = list_checkpoints(config.output_dir);
  const auto found = std::find_if(
      entries.begin(), entries.end(),
      [&](const CheckpointEntry& entry) { return fs::weakly_canonical(entry.path) == named; });
  if (found == entries.end()) {
    fail_usage(config.resume_from, cat("not a checkpoint-N folder of ", config.output_dir),
               "name one, or pass --resume to take the newest that is whole");
  }
  if (!has_manifest(named)) {
    fail_format(config.resume_from, "not a complete checkpoint: it has no manifest",
                "pass --resume to take the newest that is whole");
  }
  if (has_manifest(entries.back().path) && entries.back().step > found->step) {
    fail_usage(entries.back().path.string(),
               cat("it is newer than ", config.resume_from, ": a later --resume would take it"),
               "move it away first");
  }
  verify_manifest(named, /*deep=*/true);
  return named;
}

}  // namespace

std::optional<fs::path> checkpoint_to_resume(const RunConfig& config) {
  if (!config.resume_from.empty()) return named_checkpoint(config);
  if (!config.resume) return std::nullopt;
  const auto newest = newest_valid_checkpoint(config.output_dir);
  if (newest) return newest->path;
  for (const char* result :
       {"adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"}) {
    if (!fs::exists(fs::path(config.output_dir) / result)) continue;
    fail_usage(
        config.output_dir,
        cat("the run in it has ended (", result, " is there) and left no checkpoint to go on from"),
        "pass --overwrite to train anew, or name another output_dir");
  }
  log_warning(cat(config.output_dir, " has no checkpoint yet: starting from the beginning"));
  return std::nullopt;
}

void check_unchanged(const TrainingState& saved, const TrainingState& now, const RunConfig& config,
                     const fs::path& checkpoint) {
  const auto changed = changed_options(saved, now, config.allow_changed);
  if (changed.empty()) return;
  std::vector<std::string> keys;
  for (const std::string& line : changed) {
    const std::string key = line.substr(0, line.find(':'));
    if (keys.empty() || keys.back() != key) keys.push_back(key);
  }
  fail_usage(checkpoint.string(),
             cat("these options differ from the run to be resumed: ", join(changed, "; ")),
             cat("use the old values, or pass --allow-changed with those of the keys that may "
                 "differ: ",
                 join(keys, " ")));
}

void check_stop(const TrainingState& saved, const RunConfig& config, const fs::path& checkpoint) {
  const int64_t stop = config.train.stop_at_step;
  if (stop == 0 || stop >= saved.step) return;
  fail_usage("train.stop_at_step",
             cat("is ", stop, ", but ", checkpoint.string(), " is beyond it, at step ", saved.step),
             "name a later step or leave it out");
}

}  // namespace llama2zh
