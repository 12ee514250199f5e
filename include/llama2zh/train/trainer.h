#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/base/progress.h"
#include "llama2zh/data/prefetcher.h"
#include "llama2zh/train/best_model.h"
#include "llama2zh/train/checkpoint.h"
#include "llama2zh/train/checkpoint_writer.h"
#include "llama2zh/train/cost.h"
#include "llama2zh/train/evaluate.h"
#include "llama2zh/train/forgetting_guard.h"
#include "llama2zh/train/plan.h"
#include "llama2zh/train/run_history.h"
#include "llama2zh/train/step.h"
#include "llama2zh/train/step_profiler.h"
#include "llama2zh/train/stop.h"
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
  StopRequest::Clock::time_point started = StopRequest::Clock::now();  // for max_minutes
  // Answers train.sample_prompts; none: there are no samples.
  std::function<void(int64_t step, const std::function<bool()>& stop)> sample;
  std::function<void(int64_t step)> before_step;  // for tests; may be empty
  BatchLoss* loss = nullptr;                      // in place of the tokens' cross-entropy
  double peak_flops = 0;          // of the device a second, for the MFU; 0: not known
  ProcessGroup* group = nullptr;  // of the ranks that train together; null: there is one
  Sharding sharding;              // of gradients and moments among them
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  // of a rank's with the others
};

// Steps, log lines, evaluation, samples, checkpoints. One thread (beside the one that writes
// checkpoints); SIGINT, SIGTERM (base/signals.h) and max_minutes save at the next step, evaluations
// and samples do not hold that up. With a group every rank runs one with the same parts; rank r of N
// takes micro-batches r, N + r, ... of each step, rank 0 alone logs and writes, and a stop that one
// rank is asked for stops all at the same step.
class Trainer {
 public:
  Trainer(TrainerParts parts, const TrainerConfig& config);

  // Takes over a checkpoint's weights, moments, random state and place in the data.
  void resume(const std::filesystem::path& checkpoint, const TrainingState& state);

  // Until the last step, early stopping, or a request to stop. A step whose loss or gradients are
  // not finite is not applied; max_nonfinite_steps in a row are a Diverged error naming step and rows,
  // and nothing is saved then. On kFinished the model is the result (the best one if
  // load_best_model_at_end), and every checkpoint is on disk.
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
  // Of the model that the run ends with; empty if it was not evaluated in this session.
  const std::vector<EvalResult>& last_evaluation() const { return evaluation_; }
  int64_t result_step() const { return result_step_; }  // after kFinished: whose weights those are

 private:
  bool is_first() const { return parts_.group == nullptr || parts_.group->is_first(); }
  // The one place that decides whether to save and end before the next step; the same on all ranks.
  bool stop_now() const;
  bool has_to_save() const;  // the same on all ranks
  TrainOutcome stop();
  TrainOutcome finish();
  std::vector<PackedBatch> next_batches();
  void take_step();
  void log_step(const StepResult& result, double seconds);
  void evaluate();
  void answer_samples();
  // Everything a checkpoint holds, as it is between two steps; with `copy` in memory of its own.
  Snapshot snapshot(bool copy) const;
  void save_in_passing();  // hands a copy to the writer's thread, if there is memory for one
  void save_now();         // returns when this step's checkpoint is on disk, or throws
  // With shards on several ranks: the folder that all write into (null on others than rank 0), or why
  // there is none. Every rank calls it.
  struct Begun {
    std::shared_ptr<StagedFolder> folder;
    std::exception_ptr error;
  };
  Begun begin_save() const;
  bool has_part_in_saving() const { return is_first() || runner_.optimizer().is_sharded(); }
  void note(const std::optional<WrittenCheckpoint>& written);
  void load_best_model();
  void write_trainer_state() const;
  [[noreturn]] void fail_nonfinite(const StepResult& result,
                                   const std::vector<PackedBatch>& batches);
  double epoch() const;  // with the fraction done

  TrainerParts parts_;
  TrainerConfig config_;
  StepCount steps_;
  BatchPrefetcher batches_;
  StepRunner runner_;
  StepCost cost_;
  TrainingState state_;
  StopRequest stop_;
  BestModelRule best_rule_;
  ForgettingGuard guard_;
  RunHistory history_;
  CheckpointWriter writer_;
  std::unique_ptr<TrainLog> log_;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<StepProfiler> profiler_;  // none: train.profile is off
  LogRecord window_;                        // sums since the last line
  int64_t window_steps_ = 0, window_losses_ = 0;
  double window_seconds_ = 0, session_seconds_ = 0;
  double save_wait_ = 0;  // seconds that the last save held up training
  int64_t session_steps_ = 0, session_tokens_ = 0, saved_step_ = -1, result_step_ = 0;
  double window_wait_ = 0;  // seconds waited for data before this window
  std::optional<StepResult> last_;
  std::optional<double> latest_loss_;  // of the evaluation at state_.evaluated
  std::vector<EvalResult> evaluation_, best_evaluation_;
};

}  // namespace llama2zh
