// The Trainer's saving: snapshots, the writer's thread, the best model.
//
// Saving in the background: between two steps snapshot() copies what trains, its moments and the
// random state into host memory; CheckpointWriter's thread writes the copy while the next steps
// run. At most one write is in flight, so that memory is bounded: a save that comes due meanwhile
// waits for it.
#include <chrono>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/train/trainer.h"
#include "train/checkpoint_files.h"
#include "train/rank_random.h"

namespace llama2zh {
namespace {

double seconds_from(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Snapshot Trainer::snapshot(bool copy) const {
  Snapshot result;
  result.state = state_;
  BestModel& best = result.state.best;
  const bool evaluated = state_.evaluated == state_.step && latest_loss_;
  if (evaluated && std::isfinite(*latest_loss_) &&
      (!best.checkpoint_loss || *latest_loss_ < *best.checkpoint_loss)) {
    best.checkpoint = state_.step;
    best.checkpoint_loss = latest_loss_;
  }
  take_tensors(result, runner_.optimizer(), parts_.group, copy);
  if (parts_.group != nullptr) {
    for (auto& state : random_of_other_ranks(*parts_.group, parts_.model->device())) {
      result.tensors.push_back(std::move(state));
    }
  }
  if (!is_first()) return result;
  result.patience = parts_.timeout;
  result.write_weights = parts_.weights(copy);
  result.trainer_state = history_.trainer_state(parts_.output_dir, result.state, config_,
                                                parts_.model->config, steps_.total(), epoch());
  result.manifest = parts_.manifest;
  return result;
}

// A checkpoint in passing that fails (disk full) does not end a run that is otherwise well; older
// checkpoints are kept then.
void Trainer::note(const std::optional<WrittenCheckpoint>& written) {
  if (!written) return;
  try {
    if (written->error) std::rethrow_exception(written->error);
    if (!is_first()) return;  // rank 0 knows whether it is complete
    saved_step_ = written->step;
    state_.best.checkpoint = written->best.checkpoint;
    state_.best.checkpoint_loss = written->best.checkpoint_loss;
    std::ostringstream times;
    times << std::fixed << std::setprecision(2) << "written in " << written->seconds
          << " s, training waited " << save_wait_ << " s";
    log_info(cat("saved ", written->folder.string(), " (", times.str(), ")"));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kIo) throw;
    log_error(cat("the checkpoint of step ", written->step,
                  " could not be saved, training goes on: ", error.what()));
  }
}

Trainer::Begun Trainer::begin_save() const {
  Begun begun;
  if (parts_.group == nullptr || !runner_.optimizer().is_sharded()) return begun;
  const std::string what = cat("beginning the checkpoint of step ", state_.step);
  try {
    if (is_first()) begun.folder = begin_checkpoint(parts_.output_dir, state_);
  } catch (const Error&) {
    begun.error = std::current_exception();
  }
  parts_.group->barrier(what);  // the others look for it after this
  const fs::path folder = partial_checkpoint(parts_.output_dir, state_.step);
  const bool missing = begun.error || !fs::exists(folder);
  if (!parts_.group->any(missing, what) || begun.error) return begun;
  begun.error = std::make_exception_ptr(
      Error(ErrorKind::kIo, folder.string(), "not all ranks see the folder of the checkpoint",
            "with distributed.zero_stage every rank writes a part: use an output_dir that all "
            "hosts share"));
  begun.folder.reset();
  return begun;
}

void Trainer::save_in_passing() {
  const auto start = std::chrono::steady_clock::now();
  note(writer_.wait());
  if (!has_to_save()) return;
  if (!has_part_in_saving()) {
    snapshot(/*copy=*/false);  // its random state, for rank 0's
    return;
  }
  const Begun begun = begin_save();
  if (begun.error) {
    note(WrittenCheckpoint{.step = state_.step, .folder = {}, .best = {}, .error = begun.error});
    return;
  }
  bool copy = config_.save_in_background;
  const uint64_t bytes = checkpoint_bytes(runner_.optimizer());
  const std::optional<uint64_t> available = available_memory();
  if (copy && available && *available < bytes) {
    log_warning(cat("a copy for a checkpoint in the background takes ", human_bytes(bytes),
                    " of memory, ", human_bytes(*available),
                    " are available: this one is written while training waits"));
    copy = false;
  }
  Snapshot own = snapshot(copy);
  own.folder = begun.folder;
  if (copy) {
    writer_.start(std::move(own));
    save_wait_ = seconds_from(start);
  } else {
    const WrittenCheckpoint written = writer_.write(own);
    save_wait_ = seconds_from(start);
    note(written);
  }
}

void Trainer::save_now() {
  note(writer_.wait());
  if (!has_to_save()) return;
  const Begun begun = has_part_in_saving() ? begin_save() : Begun();
  if (begun.error) std::rethrow_exception(begun.error);
  Snapshot own = snapshot(/*copy=*/false);
  own.folder = begun.folder;
  if (has_part_in_saving()) {
    const WrittenCheckpoint written = writer_.write(own);
    if (written.error) std::rethrow_exception(written.error);
    save_wait_ = written.seconds;
    note(written);
  }
  if (parts_.group != nullptr) parts_.group->barrier(cat("the checkpoint of step ", state_.step));
}

// If the best checkpoint can't be read, the last step is saved before the error is reported: resuming
// without train.load_best_model_at_end then gives at least that.
void Trainer::load_best_model() {
  result_step_ = state_.step;
  if (!config_.load_best_model_at_end) return;
  const BestModel& best = state_.best;
  if (best.checkpoint == 0) {
    log_warning("no evaluated checkpoint was saved: the result is the last step's model");
    return;
  }
  const bool last_is_as_good =
      state_.evaluated == state_.step && latest_loss_ && *latest_loss_ <= *best.checkpoint_loss;
  if (best.checkpoint == state_.step || last_is_as_good) return;
  const fs::path folder = parts_.output_dir / cat(kCheckpointPrefix, best.checkpoint);
  try {
    verify_manifest(folder, /*deep=*/true);
    restore_weights(folder, runner_.optimizer());
  } catch (const Error&) {
    if (parts_.group == nullptr) save_now();
    throw;
  }
  result_step_ = best.checkpoint;
  evaluation_ = best_evaluation_;
  log_info(cat("the result is the best model, of step ", best.checkpoint, " (",
               config_.metric_for_best_model, " ", *best.checkpoint_loss, ")"));
}

// Where Hugging Face's Trainer leaves it too, for tools that plot a finished run.
void Trainer::write_trainer_state() const {
  write_file_atomic(parts_.output_dir / kTrainerStateFile,
                    history_.trainer_state(parts_.output_dir, state_, config_, parts_.model->config,
                                           steps_.total(), epoch()));
}

}  // namespace llama2zh
