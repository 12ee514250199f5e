// The loop: stop? -> micro-batches -> step -> log -> evaluate -> save. All that decides the weights
// is in StepRunner and TrainingState; what is here can be changed without changing a result.
//
// Saving in the background: between two steps snapshot() copies what trains, its moments and the
// random state into host memory; CheckpointWriter's thread writes the copy while the next steps
// run. At most one write is in flight, so that memory is bounded: a save that comes due meanwhile
// waits for it.
#include "llama2zh/train/trainer.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iomanip>
#include <set>
#include <sstream>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kStepsForEstimate = 3, kStepsBeforeProfile = 2;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool is_due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

std::string rows_of(const std::vector<PackedBatch>& batches) {
  std::set<int64_t> rows;
  for (const PackedBatch& batch : batches) rows.insert(batch.rows.begin(), batch.rows.end());
  std::string text;
  for (const int64_t row : rows) {
    if (text.size() > 60) return text + ", ...";
    text += (text.empty() ? "" : ", ") + std::to_string(row);
  }
  return text;
}

}  // namespace

Trainer::Trainer(TrainerParts parts, const TrainerConfig& config)
    : parts_(std::move(parts)),
      config_(config),
      steps_(*parts_.loader, config),
      batches_(*parts_.loader, parts_.prefetch),
      runner_(*parts_.model, config, steps_.total()),
      cost_(*parts_.model),
      state_(parts_.state),
      writer_(parts_.output_dir, config.save_total_limit) {
  if (runner_.optimizer().parameters().empty()) {
    fail_usage("train", "nothing is trained", "set lora.target_modules or lora.modules_to_save");
  }
  if (parts_.loader->batches(0) == 0) {
    fail_data("train", "the training rows do not make a single block of two tokens",
              "give more text in data.train_files");
  }
}

void Trainer::resume(const fs::path& checkpoint, const TrainingState& state) {
  const ordered_json config = state_.config, identity = state_.identity;
  restore_checkpoint(checkpoint, state, runner_.optimizer());
  const bool dynamic = runner_.loss_scale().dynamic;
  runner_.loss_scale() = state.loss_scale;
  runner_.loss_scale().dynamic = dynamic;
  state_ = state;
  state_.config = config;  // options that were allowed to change
  state_.identity = identity;
  saved_step_ = state.step;
  history_.read(checkpoint);
  log_info(cat("resuming at step ", state_.step, " from ", checkpoint.string()));
}

bool Trainer::should_stop() const {
  return stop_requested() || (config_.stop_at_step > 0 && state_.step >= config_.stop_at_step);
}

double Trainer::epoch() const {
  if (state_.batch_index == 0) return static_cast<double>(state_.epoch);
  const double batches = static_cast<double>(parts_.loader->batches(state_.epoch));
  return static_cast<double>(state_.epoch) + static_cast<double>(state_.batch_index) / batches;
}

// The micro-batches of the next step; the cursor moves behind them.
std::vector<PackedBatch> Trainer::next_batches() {
  RECORD_USER_SCOPE("data");
  std::vector<PackedBatch> batches;
  const int64_t in_epoch = parts_.loader->batches(state_.epoch);
  while (static_cast<int64_t>(batches.size()) < config_.gradient_accumulation_steps &&
         state_.batch_index < in_epoch) {
    batches.push_back(batches_.get(state_.epoch, state_.batch_index++));
  }
  if (state_.batch_index == in_epoch) {
    ++state_.epoch;
    state_.batch_index = 0;
  }
  return batches;
}

void Trainer::report_nonfinite(const StepResult& result, const std::vector<PackedBatch>& batches) {
  const bool loss = !std::isfinite(result.loss);
  std::ostringstream problem;
  problem << (loss ? "the loss is " : "the gradient norm is ")
          << (loss ? result.loss : result.grad_norm)
          << ", not a finite number; the step was not applied (data rows " << rows_of(batches)
          << ")";
  const std::vector<CheckpointEntry> saved = list_checkpoints(parts_.output_dir);
  fail_data(cat("step ", state_.step + 1), problem.str(),
            saved.empty() ? "lower train.learning_rate or use another model.dtype"
                          : cat("go on from ", saved.back().path.filename().string(),
                                " with --resume and a lower learning rate or another dtype"));
}

void Trainer::log_step(const StepResult& result, double seconds) {
  last_ = result;
  ++session_steps_;
  session_seconds_ += seconds;
  session_tokens_ += result.tokens;
  ++window_steps_;
  window_seconds_ += seconds;
  window_.loss += result.loss;
  window_.tokens += result.tokens;
  window_.supervised += result.supervised;
  window_.skipped += result.skipped ? 1 : 0;
  const int64_t left = steps_.total() - state_.step;
  const double per_step = session_seconds_ / static_cast<double>(session_steps_);
  LogRecord record = window_;
  record.step = state_.step;
  record.total_steps = steps_.total();
  record.loss /= static_cast<double>(window_steps_);
  record.grad_norm = result.grad_norm;
  record.learning_rate = result.learning_rate;
  record.epoch = epoch();
  record.tokens_per_second = static_cast<double>(record.tokens) / std::max(1e-9, window_seconds_);
  record.throughput = static_cast<double>(session_tokens_) / std::max(1e-9, session_seconds_);
  record.total_tokens = state_.tokens;
  if (parts_.peak_flops > 0) {
    record.mfu = record.flops / std::max(1e-9, window_seconds_) / parts_.peak_flops;
  }
  record.memory = device_memory(parts_.model->device());
  record.data_wait = (batches_.wait_seconds() - window_wait_) / std::max(1e-9, window_seconds_);
  record.elapsed = session_seconds_;
  record.remaining = per_step * static_cast<double>(left);
  progress_->update(state_.step, progress_note(record));
  if (session_steps_ == kStepsForEstimate && left > 0) {
    log_info(
        cat("about ", human_duration(record.remaining), " for the remaining ", left, " steps"));
  }
  if (!is_due(config_.logging_steps, state_.step) && left > 0) return;
  log_->write(record);
  history_.add(record);
  window_ = {};
  window_steps_ = 0;
  window_seconds_ = 0;
  window_wait_ = batches_.wait_seconds();
}

void Trainer::take_step() {
  RECORD_USER_SCOPE("step");
  const auto start = std::chrono::steady_clock::now();
  const TrainingState before = state_;
  const std::vector<PackedBatch> batches = next_batches();
  const StepResult result = runner_.run(before.step, batches);
  if (!result.finite) {
    state_ = before;
    report_nonfinite(result, batches);
  }
  if (result.skipped && runner_.loss_scale().dynamic) {
    log_warning(cat("step ", before.step + 1, " skipped: fp16 overflow, loss scale is now ",
                    runner_.loss_scale().scale));
  }
  ++state_.step;
  state_.tokens += result.tokens;
  state_.supervised += result.supervised;
  state_.updates = runner_.optimizer().updates();
  state_.loss_scale = runner_.loss_scale();
  window_.flops += cost_.flops(batches);
  log_step(result, seconds_since(start));
}

void Trainer::evaluate() {
  std::vector<EvalResult> results;
  for (const ValidationSet& set : parts_.validation) {
    const auto result = evaluate_loss(*parts_.model, set, config_.head_chunk_rows);
    if (!result) return;  // a stop was asked for: saving is more urgent
    results.push_back(*result);
    log_->write(*result, state_.step, steps_.total(), epoch(), parts_.validation.size() == 1);
    std::ostringstream text;
    text << "step " << state_.step << ": " << result->name << " loss " << std::fixed
         << std::setprecision(4) << result->loss << ", perplexity " << std::setprecision(2)
         << result->perplexity();
    if (result->bits_per_character) {
      text << ", bits per character " << std::setprecision(4) << *result->bits_per_character;
    }
    log_info(text.str());
  }
  history_.add(results, state_.step, epoch());
  evaluation_ = std::move(results);
  evaluated_step_ = state_.step;
}

Snapshot Trainer::snapshot(bool copy) const {
  Snapshot result;
  result.state = state_;
  result.tensors = snapshot_tensors(runner_.optimizer(), copy);
  result.write_weights = parts_.weights(copy);
  result.trainer_state =
      history_.trainer_state(state_, config_, parts_.model->config, steps_.total(), epoch());
  result.manifest = parts_.manifest;
  return result;
}

// A checkpoint in passing that fails (disk full) does not end a run that is otherwise well; older
// checkpoints are kept then.
void Trainer::note(const std::optional<WrittenCheckpoint>& written) {
  if (!written) return;
  try {
    if (written->error) std::rethrow_exception(written->error);
    saved_step_ = written->step;
    log_info(cat("saved ", written->folder.string()));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kIo) throw;
    log_error(cat("the checkpoint of step ", written->step,
                  " could not be saved, training goes on: ", error.what()));
  }
}

void Trainer::save_in_passing() {
  if (saved_step_ == state_.step) return;
  note(writer_.wait());
  bool copy = config_.save_in_background;
  const uint64_t bytes = checkpoint_bytes(runner_.optimizer());
  const std::optional<uint64_t> available = available_memory();
  if (copy && available && *available < bytes) {
    log_warning(cat("a copy for a checkpoint in the background takes ", human_bytes(bytes),
                    " of memory, ", human_bytes(*available),
                    " are available: this one is written while training waits"));
    copy = false;
  }
  if (copy) {
    writer_.start(snapshot(/*copy=*/true));
  } else {
    note(writer_.write(snapshot(/*copy=*/false)));
  }
}

void Trainer::save_now() {
  note(writer_.wait());
  if (saved_step_ == state_.step) return;
  const WrittenCheckpoint written = writer_.write(snapshot(/*copy=*/false));
  if (written.error) std::rethrow_exception(written.error);
  note(written);
}

TrainOutcome Trainer::run() {
  log_ = std::make_unique<TrainLog>(parts_.output_dir / "trainer_log.jsonl", state_.step,
                                    config_.report_to == "tensorboard");
  progress_ = std::make_unique<Progress>("train", steps_.total(), "step");
  if (config_.profile) {
    const int64_t spare = steps_.total() - state_.step - config_.profile_steps;
    profiler_ = std::make_unique<StepProfiler>(parts_.output_dir / "profile",
                                               std::clamp<int64_t>(spare, 0, kStepsBeforeProfile),
                                               config_.profile_steps, parts_.model->device());
  }
  while (state_.step < steps_.total()) {
    if (should_stop()) {
      progress_->finish("stopped");
      if (profiler_) profiler_->finish();
      if (state_.step > 0) save_now();
      return TrainOutcome::kStopped;
    }
    if (profiler_) profiler_->before_step();
    take_step();
    if (profiler_) profiler_->after_step();
    if (is_due(config_.eval_steps, state_.step)) evaluate();
    if (is_due(config_.save_steps, state_.step)) save_in_passing();
    note(writer_.poll());
  }
  note(writer_.wait());
  progress_->finish();
  if (profiler_) profiler_->finish();
  if (evaluated_step_ != state_.step) evaluate();
  return TrainOutcome::kFinished;
}

}  // namespace llama2zh
