// A run's folder is its result's folder too (as Hugging Face's Trainer has it), with checkpoints
// and the log beside the result's files. So the folder can't be staged as a whole: the result is
// staged inside it and then moved up, file by file, with the manifest as the commit mark.
#include "train/output_folder.h"

#include <string>
#include <vector>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/writable.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/output_folder.h"
#include "llama2zh/model/merge.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "llama2zh/train/checkpoint.h"
#include "train/checkpoint_files.h"

namespace llama2zh {
namespace {

constexpr const char* kResultFolder = "result";
constexpr const char* kMergedFolder = "merged";

std::string first_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (names.size() == 4) {
      names.push_back("...");
      break;
    }
    names.push_back(entry.path().filename().string());
  }
  return join(names, ", ");
}

bool is_result_file(const std::string& name) {
  static const std::vector<std::string> kNames = {"trainer_log.jsonl",
                                                  kTrainerStateFile,
                                                  "samples.jsonl",
                                                  "run_config.json",
                                                  "README.md",
                                                  "adapter_config.json",
                                                  "config.json",
                                                  "generation_config.json",
                                                  "tokenizer.model",
                                                  "tokenizer.json",
                                                  "tokenizer_config.json",
                                                  "special_tokens_map.json",
                                                  "added_tokens.json",
                                                  "chat_template.jinja",
                                                  "adapter_model.safetensors",
                                                  "model.safetensors",
                                                  "model.safetensors.index.json",
                                                  kManifestName};
  for (const std::string& known : kNames) {
    if (name == known) return true;
  }
  return (name.starts_with("model-0") || name.starts_with(kReferencePrefix)) &&
         name.ends_with(".safetensors");
}

// Ours, complete or not: it has the state file or the manifest.
bool is_own_checkpoint(const fs::path& folder) {
  return fs::exists(folder / kTrainerStateFile) || fs::exists(folder / kRunStateFile) ||
         has_manifest(folder);
}

// TensorBoard's event files, and folders that are empty without them.
void remove_events(const fs::path& runs) {
  if (!fs::is_directory(runs)) return;
  std::vector<fs::path> files, folders;
  for (const auto& entry : fs::recursive_directory_iterator(runs)) {
    const bool events = entry.path().filename().string().starts_with("events.out.tfevents.");
    if (entry.is_directory()) folders.push_back(entry.path());
    if (entry.is_regular_file() && events) files.push_back(entry.path());
  }
  for (const fs::path& file : files) fs::remove(file);
  folders.insert(folders.begin(), runs);
  std::error_code not_empty;
  for (auto it = folders.rbegin(); it != folders.rend(); ++it) fs::remove(*it, not_empty);
}

// Checkpoints and results that were being written, or being removed, when a process was killed.
void remove_unfinished(const fs::path& folder) {
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with(kCheckpointPrefix) || name.starts_with(kResultFolder) ||
                      name.starts_with(kMergedFolder);
    if (ours && name.ends_with(kPartialSuffix)) unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) fs::remove_all(path);
}

void remove_earlier_run(const fs::path& folder) {
  for (const CheckpointEntry& entry : list_checkpoints(folder)) {
    if (is_own_checkpoint(entry.path)) fs::remove_all(entry.path);
  }
  remove_events(folder / "runs");
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (is_result_file(entry.path().filename().string())) files.push_back(entry.path());
  }
  for (const fs::path& file : files) fs::remove(file);
  if (has_manifest(folder / kMergedFolder)) fs::remove_all(folder / kMergedFolder);
}

}  // namespace

void check_output_folder(const RunConfig& config) {
  if (config.output_dir.empty()) {
    fail_usage("output_dir", "no output folder was named", "set output_dir or pass --output-dir");
  }
  const fs::path output = config.output_dir;
  const NamedInput adapter{"model.peft_path", config.model.peft_path};
  refuse_input_as_output("output_dir", output, {{"model.path", config.model.path}, adapter},
                         Replaces::kFiles);
  // An earlier run's checkpoints go with it.
  if (config.overwrite) refuse_input_as_output("output_dir", output, {adapter}, Replaces::kFolder);
  fs::path existing = fs::absolute(output);
  while (!fs::exists(existing) && existing.has_relative_path()) existing = existing.parent_path();
  if (!fs::is_directory(existing)) {
    fail_usage(existing.string(), "expected a folder, found a file", "name another output_dir");
  }
  check_writable(output);
  const bool resumes = config.resume || !config.resume_from.empty();
  if (resumes && config.overwrite) {
    fail_usage("overwrite", "can't be asked for together with resume", "pass one of the two");
  }
  if (!fs::exists(output) || fs::is_empty(output) || resumes || config.overwrite) return;
  fail_usage(output.string(), cat("the output folder is not empty (", first_names(output), ")"),
             "pass --resume to go on with its run, --overwrite to replace it, or name another");
}

FolderLock prepare_output_folder(const RunConfig& config) {
  const fs::path output = config.output_dir;
  try {
    fs::create_directories(output);
    FolderLock lock(output);
    remove_unfinished(output);
    if (config.overwrite) remove_earlier_run(output);
    return lock;
  } catch (const fs::filesystem_error& error) {
    fail_io(output.string(), "the output folder can't be prepared", error.code().value());
  }
}

void publish_result(const fs::path& output_dir,
                    const std::function<void(const fs::path& folder)>& write) {
  StagedFolder staged(output_dir / kResultFolder, Existing::kReplace);
  write(staged.path());
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(staged.path())) {
    if (entry.path().filename() != kManifestName) names.push_back(entry.path().filename());
  }
  names.emplace_back(kManifestName);
  try {
    fs::remove(output_dir / kManifestName);
    for (const fs::path& name : names) {
      fsync_path(staged.path() / name);
      fs::rename(staged.path() / name, output_dir / name);
    }
  } catch (const fs::filesystem_error& error) {
    fail_io(output_dir.string(), "the result can't be moved into place", error.code().value());
  }
  fsync_path(output_dir);
}

void write_merged_model(const RunConfig& config) {
  const fs::path adapter = config.output_dir, target = adapter / kMergedFolder;
  StagedFolder staged(target, Existing::kReplace);
  const Tokenizer tokenizer = Tokenizer::load(adapter);
  const MergeOptions merge{
      .base = config.model.path, .adapters = {adapter}, .output = staged.path()};
  merge_adapters(merge, &tokenizer);
  require_agreement(compare_merge(staged.path(), merge), target);
  staged.commit();
  log_info(cat("merged model: ", target.string()));
}

}  // namespace llama2zh
