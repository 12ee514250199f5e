#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/train/best_model.h"
#include "llama2zh/train/forgetting_guard.h"
#include "llama2zh/train/moment_files.h"
#include "llama2zh/train/step.h"

namespace llama2zh {

// What a run needs, beside weights, moments and random state, to go on as if nothing had happened.
struct TrainingState {
  int64_t step = 0;   // optimizer steps done
  int64_t epoch = 0;  // epoch and index of the next micro-batch
  int64_t batch_index = 0;
  int64_t updates = 0;    // steps that were applied
  int64_t nonfinite = 0;  // steps in a row, up to now, that were not because of NaN or infinity
  LossScale loss_scale;
  int64_t tokens = 0, supervised = 0;  // seen so far
  int64_t evaluated = 0;               // step of the last whole evaluation
  BestModel best;
  GuardState guard;
  std::string run_id;     // checkpoints of another run in the same folder are never touched
  ordered_json config;    // the run's options, resolved
  ordered_json identity;  // {"data", "model", "tokenizer"}: fingerprints of what they point at
  // TrainingData::description(), which says what is behind another fingerprint; empty in checkpoints
  // of an older program.
  ordered_json data;
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
// The weights as they are now. With `copy` the writer holds copies in host memory, so that another
// thread may run it while training goes on; without, it reads the model when it runs.
using WeightsSnapshot = std::function<WeightsWriter(bool copy)>;

// For a WeightsSnapshot of a model that trains whole.
std::map<std::string, at::Tensor> held_weights(Llama& model, bool copy);

// One moment of a run, ready to be written.
struct Snapshot {
  TrainingState state;
  // Random state; moments too where every rank has all of them.
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::optional<MomentShard> shard;  // where they are sharded; all that counts on ranks but 0
  WeightsWriter write_weights;
  std::string trainer_state;  // text of Hugging Face's trainer_state.json
  Manifest manifest;          // tokenizer and base
  // The folder, begun already because other ranks write into it too; null: write_checkpoint() does.
  std::shared_ptr<StagedFolder> folder;
  std::chrono::milliseconds patience{0};  // of rank 0 with other ranks' files
};
// Fills in what optimizer and random generators give: tensors and shard; `copy` as above.
void take_tensors(Snapshot& snapshot, const ShardedAdamW& optimizer, const ProcessGroup* group,
                  bool copy);
// Begins output_dir/checkpoint-STEP. kUsage if that name is taken by another run's checkpoint, kIo if
// the disk says no.
std::shared_ptr<StagedFolder> begin_checkpoint(const std::filesystem::path& output_dir,
                                               const TrainingState& state);
// Bytes of weights and of the moments that this rank holds: those of its snapshot's copies.
uint64_t checkpoint_bytes(const ShardedAdamW& optimizer);

// Writes output_dir/checkpoint-STEP whole or not at all: weights, state.safetensors (moments and
// random state), run_state.json, trainer_state.json, then the manifest, all flushed to disk before
// the folder gets its name, which is returned. With a shard, moments are in files of each rank: rank 0
// waits for those of the others before the manifest, unless `give_up`; another rank just writes its
// own into the folder that rank 0 has begun, and returns no name. kIo naming the path if the disk says
// no. Any thread, one at a time.
std::filesystem::path write_checkpoint(const std::filesystem::path& output_dir,
                                       const Snapshot& snapshot,
                                       const std::function<bool()>& give_up = {});

// For tests of what a crash leaves: called at each point of a write ("begun", "weights", "state",
// "manifest", "committed", "rotated"), in the thread that writes.
void set_checkpoint_hook(std::function<void(std::string_view point)> hook);

// The state alone; kFormat if the folder has none.
TrainingState read_training_state(const std::filesystem::path& checkpoint);
// Copies the weights alone into the model that `optimizer` trains.
void restore_weights(const std::filesystem::path& checkpoint, ShardedAdamW& optimizer);
// Copies weights, moments and random state.
void restore_checkpoint(const std::filesystem::path& checkpoint, const TrainingState& state,
                        ShardedAdamW& optimizer);

// Removes the oldest (by number) of this run's checkpoints up to step `newest`, which was just saved,
// until `keep` are left; 0 keeps all. Neither the newest nor step `best` ever goes (0: there is
// none). Later numbers (broken ones that a resumed run has not reached again) neither count nor go.
// A folder that can't be removed is a warning.
void rotate_checkpoints(const std::filesystem::path& output_dir, const std::string& run_id,
                        int64_t keep, int64_t newest, int64_t best);

// One line for each compared option whose value differs: "train.learning_rate: 1e-4 in the
// checkpoint, 2e-4 now"; other data give a line for each file, share or option that differs. Each
// begins with the key that `allowed` would take. Options without influence on the weights are not compared; names in
// `allowed` are left out (kUsage with the nearest name if one is not a compared option).
std::vector<std::string> changed_options(const TrainingState& saved, const TrainingState& now,
                                         const std::vector<std::string>& allowed);

}  // namespace llama2zh
