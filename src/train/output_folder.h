#pragma once

#include <filesystem>
#include <functional>

#include "llama2zh/base/file.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// What `llama2zh dpo` keeps of its reference: kReferenceFile of the training rows, PREFIX-NAME of a
// validation set.
inline constexpr const char* kReferencePrefix = "reference_log_probs";
inline constexpr const char* kReferenceFile = "reference_log_probs.safetensors";

// kUsage if the folder can't take this run: another run's (or anything) is in it and neither
// resume nor overwrite was asked for; it is an input of the run. kIo if it can't be written to.
// Changes nothing.
void check_output_folder(const RunConfig& config);

// Makes the folder; with overwrite removes what an earlier run left (checkpoints, log, result), and
// nothing else; what a killed process had half written goes in any case. The lock is the run's:
// kIo if another process is training into this folder.
FolderLock prepare_output_folder(const RunConfig& config);

// Fills output_dir with what `write` puts into a folder: every file gets its name only when all
// are written and flushed, the manifest last.
void publish_result(const std::filesystem::path& output_dir,
                    const std::function<void(const std::filesystem::path& folder)>& write);

// output_dir/merged: the base with the adapter in output_dir merged in, whole or not at all; kData
// if it does not answer as base + adapter do.
void write_merged_model(const RunConfig& config);

}  // namespace llama2zh
