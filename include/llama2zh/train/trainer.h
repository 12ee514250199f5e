#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/base/progress.h"
#include "llama2zh/data/prefetcher.h"
#include "llama2zh/train/checkpoint.h"
#include "llama2zh/train/checkpoint_writer.h"
#include "llama2zh/train/cost.h"
#include "llama2zh/train/evaluate.h"
#include "llama2zh/train/plan.h"
#include "llama2zh/train/run_history.h"
#include "llama2zh/train/step.h"
#include "llama2zh/train/step_profiler.h"
#include "llama2zh/train/train_log.h"

namespace llama2zh {

enum class TrainOutcome { kFinished, kStopped };  // kStopped: saved, to be resumed

// What a Trainer works with; everything pointed to must outlive it.
struct TrainerParts {
  Llama* model = nullptr;  // with what trains marked
  const BatchLoader* loader = nullptr;
  int64_t prefetch = 0;  // micro-batches that are made ready ahead
  std::vector<ValidationSet> validation;
  std::filesystem::path output_dir;  // exists
  WeightsSnapshot weights;           // of a checkpoint
  Manifest manifest;                 // of a checkpoint: tokenizer and base
  TrainingState state;               // run_id, config and identity of a new run
  double peak_flops = 0;             // of the device a second, for the MFU; 0: not known
};

// Steps, log lines, evaluation, checkpoints. One thread; SIGINT and SIGTERM (base/signals.h) save
// at the next step.
class Trainer {
 public:
  Trainer(TrainerParts parts, const TrainerConfig& config);

  // Takes over a checkpoint's weights, moments, random state and place in the data.
  void resume(const std::filesystem::path& checkpoint, const TrainingState& state);

  // Until the last step, a signal or stop_at_step. A loss or gradient that is not finite is a kData
  // error naming step and rows; that step is not applied and nothing is saved.
  TrainOutcome run();

  const TrainingState& state() const { return state_; }
  int64_t total_steps() const { return steps_.total(); }
  const StepRunner& runner() const { return runner_; }
  // Share of the steps' time spent waiting for micro-batches.
  double data_wait() const {
    return session_seconds_ > 0 ? batches_.wait_seconds() / session_seconds_ : 0;
  }
  // Of the last step; empty before the first.
  const std::optional<StepResult>& last() const { return last_; }
  const std::vector<EvalResult>& last_evaluation() const { return evaluation_; }

 private:
  bool should_stop() const;
  std::vector<PackedBatch> next_batches();
  void take_step();
  void log_step(const StepResult& result, double seconds);
  void evaluate();
  // Everything a checkpoint holds, as it is between two steps; with `copy` in memory of its own.
  Snapshot snapshot(bool copy) const;
  void save_in_passing();  // hands a copy to the writer's thread, if there is memory for one
  void save_now();         // returns when this step's checkpoint is on disk, or throws
  void note(const std::optional<WrittenCheckpoint>& written);
  [[noreturn]] void report_nonfinite(const StepResult& result,
                                     const std::vector<PackedBatch>& batches);
  double epoch() const;  // with the fraction done

  TrainerParts parts_;
  TrainerConfig config_;
  StepCount steps_;
  BatchPrefetcher batches_;
  StepRunner runner_;
  StepCost cost_;
  TrainingState state_;
  RunHistory history_;
  CheckpointWriter writer_;
  std::unique_ptr<TrainLog> log_;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<StepProfiler> profiler_;  // none: train.profile is off
  LogRecord window_;                        // sums since the last line
  int64_t window_steps_ = 0;
  double window_seconds_ = 0, session_seconds_ = 0;
  int64_t session_steps_ = 0, session_tokens_ = 0, evaluated_step_ = -1, saved_step_ = -1;
  double window_wait_ = 0;  // seconds waited for data before this window
  std::optional<StepResult> last_;
  std::vector<EvalResult> evaluation_;
};

}  // namespace llama2zh
