#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/train/adamw.h"
#include "llama2zh/train/step.h"

namespace llama2zh {

// What a run needs, beside weights, moments and random state, to go on as if nothing had happened.
struct TrainingState {
  int64_t step = 0;   // optimizer steps done
  int64_t epoch = 0;  // epoch and index of the next micro-batch
  int64_t batch_index = 0;
  int64_t updates = 0;  // steps that were applied
  LossScale loss_scale;
  int64_t tokens = 0, supervised = 0;  // seen so far
  std::string run_id;     // checkpoints of another run in the same folder are never touched
  ordered_json config;    // the run's options, resolved
  ordered_json identity;  // {"data", "model", "tokenizer"}: fingerprints of what they point at
};

struct CheckpointEntry {
  int64_t step = 0;
  std::filesystem::path path;
};
// The checkpoint-N folders of a run's folder by ascending N; half-written ones (.partial) are not
// among them.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& output_dir);
// Newest first, the first whose manifest verifies, checksums too; a warning for each that does
// not. None if there is no checkpoint; kFormat if there are some but none verifies.
std::optional<CheckpointEntry> newest_valid_checkpoint(const std::filesystem::path& output_dir);

// Fills an existing folder with the trained weights as an adapter or model, everything in fp32.
using WeightsWriter = std::function<void(const std::filesystem::path& folder)>;

// Writes output_dir/checkpoint-STEP whole or not at all: weights, state.safetensors (moments and
// random state), trainer_state.json, then the manifest, all flushed to disk before the folder gets
// its name. kUsage if that name is taken by another run's checkpoint.
std::filesystem::path save_checkpoint(const std::filesystem::path& output_dir,
                                      const TrainingState& state, const AdamW& optimizer,
                                      const WeightsWriter& write_weights, Manifest manifest);

// The state alone; kFormat if the folder has none.
TrainingState read_training_state(const std::filesystem::path& checkpoint);
// Copies weights, moments and random state into the model that `optimizer` trains.
void restore_checkpoint(const std::filesystem::path& checkpoint, const TrainingState& state,
                        AdamW& optimizer);

// Removes the oldest (by number) of this run's checkpoints up to step `newest`, which was just saved,
// until `keep` are left; 0 keeps all. Later numbers (broken ones that a resumed run has not reached
// again) neither count nor go. A folder that can't be removed is a warning.
void rotate_checkpoints(const std::filesystem::path& output_dir, const std::string& run_id,
                        int64_t keep, int64_t newest);

// One line for each compared option whose value differs: "train.learning_rate: 1e-4 in the
// checkpoint, 2e-4 now". Options without influence on the weights are not compared; names in
// `allowed` are left out (kUsage with the nearest name if one is not a compared option).
std::vector<std::string> changed_options(const TrainingState& saved, const TrainingState& now,
                                         const std::vector<std::string>& allowed);

}  // namespace llama2zh
