// The loop: stop? -> micro-batches -> step -> log -> evaluate -> save. All that decides the weights
// is in StepRunner and TrainingState; what is here can be changed without changing a result. Logging and
// evaluation are in trainer_report.cpp, checkpoints in trainer_save.cpp.
#include "llama2zh/train/trainer.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iomanip>
#include <set>
#include <sstream>
#include <utility>

#include "llama2zh/base/diverged.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "train/due.h"
#include "train/rank_random.h"

namespace llama2zh {
namespace {

constexpr int64_t kStepsBeforeProfile = 2;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string best_metric_of(const ordered_json& config) {
  const ordered_json::json_pointer key("/train/metric_for_best_model");
  return config.contains(key) ? config.at(key).get<std::string>() : "";
}

std::vector<std::string> names_of(const std::vector<ValidationSet>& sets) {
  std::vector<std::string> names;
  for (const ValidationSet& set : sets) names.push_back(set.name);
  return names;
}

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

std::string nonfinite_problem(const StepResult& result, const std::vector<PackedBatch>& batches) {
  const bool loss = !std::isfinite(result.loss);
  std::ostringstream problem;
  problem << (loss ? "the loss is " : "the gradient norm is ")
          << (loss ? result.loss : result.grad_norm)
          << ", not a finite number; the step was not applied (data rows " << rows_of(batches)
          << ")";
  return problem.str();
}

}  // namespace

Trainer::Trainer(TrainerParts parts, const TrainerConfig& config)
    : parts_(std::move(parts)),
      config_(config),
      steps_(*parts_.loader, config, parts_.group == nullptr ? 1 : parts_.group->size()),
      batches_(*parts_.loader, parts_.prefetch, parts_.group == nullptr ? 1 : parts_.group->size()),
      runner_(*parts_.model, config, steps_.total(), parts_.group, parts_.loss, parts_.sharding),
      cost_(*parts_.model),
      state_(parts_.state),
      stop_(config.max_minutes, parts_.started),
      best_rule_(config, names_of(parts_.validation)),
      guard_(config, config.eval_steps, names_of(parts_.validation)),
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
  const ordered_json config = state_.config, identity = state_.identity, data = state_.data;
  restore_checkpoint(checkpoint, state, runner_.optimizer());
  const bool dynamic = runner_.loss_scale().dynamic;
  runner_.loss_scale() = state.loss_scale;
  runner_.loss_scale().dynamic = dynamic;
  state_ = state;
  if (best_metric_of(config) != best_metric_of(state_.config)) state_.best = {};
  state_.config = config;  // options that were allowed to change
  state_.identity = identity;
  state_.data = data;
  saved_step_ = state.step;
  if (!is_first()) {
    restore_rank_random(checkpoint, parts_.group->rank(), parts_.model->device());
  }
  history_.read(checkpoint);
  log_info(cat("resuming at step ", state_.step, " from ", checkpoint.string()));
}

bool Trainer::stop_now() const {
  const bool own =
      stop_.asked() || (config_.stop_at_step > 0 && state_.step >= config_.stop_at_step);
  if (parts_.group == nullptr) return own;
  return parts_.group->any(own, cat("whether to stop before step ", state_.step + 1));
}

bool Trainer::has_to_save() const {
  const bool own = is_first() && saved_step_ != state_.step;
  if (parts_.group == nullptr) return own;
  return parts_.group->any(own, cat("whether to save step ", state_.step));
}

double Trainer::epoch() const {
  if (state_.batch_index == 0) return static_cast<double>(state_.epoch);
  const double batches = static_cast<double>(parts_.loader->batches(state_.epoch));
  return static_cast<double>(state_.epoch) + static_cast<double>(state_.batch_index) / batches;
}

// This rank's micro-batches of the next step; the cursor moves behind those of all ranks.
std::vector<PackedBatch> Trainer::next_batches() {
  RECORD_USER_SCOPE("data");
  std::vector<PackedBatch> batches;
  const int64_t in_epoch = parts_.loader->batches(state_.epoch);
  const int64_t ranks = parts_.group == nullptr ? 1 : parts_.group->size();
  const int64_t rank = parts_.group == nullptr ? 0 : parts_.group->rank();
  const int64_t in_step = config_.gradient_accumulation_steps * ranks;
  for (int64_t i = 0; i < in_step && state_.batch_index < in_epoch; ++i, ++state_.batch_index) {
    if (i % ranks != rank) continue;
    batches.push_back(batches_.get(state_.epoch, state_.batch_index));
    if (parts_.loss != nullptr) parts_.loss->prepare(batches.back());
  }
  if (state_.batch_index == in_epoch) {
    ++state_.epoch;
    state_.batch_index = 0;
  }
  return batches;
}

void Trainer::fail_nonfinite(const StepResult& result, const std::vector<PackedBatch>& batches) {
  note(writer_.wait());
  const std::vector<CheckpointEntry> saved = list_checkpoints(parts_.output_dir);
  throw Diverged(cat("step ", state_.step + 1), nonfinite_problem(result, batches),
                 saved.empty() ? "lower train.learning_rate or use another model.dtype"
                               : cat("go on from ", saved.back().path.filename().string(),
                                     " with --resume and a lower learning rate or another dtype"));
}

void Trainer::take_step() {
  if (parts_.before_step) parts_.before_step(state_.step);
  RECORD_USER_SCOPE("step");
  const auto start = std::chrono::steady_clock::now();
  const int64_t epoch = state_.epoch, index = state_.batch_index;
  const std::vector<PackedBatch> batches = next_batches();
  const StepResult result = runner_.run(state_.step, batches);
  if (!result.finite) {
    if (++state_.nonfinite >= config_.max_nonfinite_steps) {
      state_.epoch = epoch;
      state_.batch_index = index;
      fail_nonfinite(result, batches);
    }
    log_warning(cat("step ", state_.step + 1, ": ", nonfinite_problem(result, batches), "; ",
                    state_.nonfinite, " in a row"));
  } else {
    state_.nonfinite = 0;
  }
  if (result.skipped && runner_.loss_scale().dynamic) {
    log_warning(cat("step ", state_.step + 1, " skipped: fp16 overflow, loss scale is now ",
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

TrainOutcome Trainer::stop() {
  if (progress_) progress_->finish("stopped");
  std::string reason = stop_.reason();
  const bool at_step = config_.stop_at_step > 0 && state_.step >= config_.stop_at_step;
  if (reason.empty() && at_step) reason = cat("train.stop_at_step is ", config_.stop_at_step);
  log_info(cat("stopping after step ", state_.step, reason.empty() ? "" : ": ", reason,
               session_steps_ == 0 ? "; no step was made" : ""));
  if (profiler_) profiler_->finish();
  if (state_.step > 0) save_now();
  if (is_first()) write_trainer_state();
  return TrainOutcome::kStopped;
}

TrainOutcome Trainer::finish() {
  const bool early = state_.step < steps_.total();
  if (progress_) progress_->finish(early ? "stopped early" : "");
  if (early && guard_.stops(state_.guard)) {
    log_info(cat("stopping early: too much is forgotten, ", guard_.describe(state_.guard)));
  } else if (early) {
    log_info(cat("stopping early: ", state_.best.without_improvement,
                 " evaluations in a row were not better than step ", state_.best.step, "'s"));
  }
  if (profiler_) profiler_->finish();
  if (state_.evaluated != state_.step) evaluate();
  note(writer_.wait());
  if (is_first()) {
    load_best_model();
    write_trainer_state();
  }
  return TrainOutcome::kFinished;
}

TrainOutcome Trainer::run() {
  if (is_first()) {
    log_ = std::make_unique<TrainLog>(parts_.output_dir / "trainer_log.jsonl", state_.step,
                                      config_.report_to == "tensorboard");
    progress_ = std::make_unique<Progress>("train", steps_.total(), "step");
  }
  if (config_.profile && is_first()) {
    const int64_t spare = steps_.total() - state_.step - config_.profile_steps;
    profiler_ = std::make_unique<StepProfiler>(parts_.output_dir / "profile",
                                               std::clamp<int64_t>(spare, 0, kStepsBeforeProfile),
                                               config_.profile_steps, parts_.model->device());
  }
  if (guard_.is_new(state_.guard)) {
    guard_.begin(state_.guard, state_.step);
    if (state_.step > 0 && is_first())
      log_warning(cat("forgetting: the guard was not there before step ", state_.step,
                      ", so what was forgotten until then does not count"));
    evaluate();
  }
  // A stop may have cut an evaluation off: the run that goes on catches up.
  if (is_due(config_.eval_steps, state_.step) && state_.evaluated != state_.step) evaluate();
  while (state_.step < steps_.total() && !best_rule_.gives_up(state_.best) &&
         !guard_.stops(state_.guard)) {
    if (stop_now()) return stop();
    if (profiler_) profiler_->before_step();
    take_step();
    if (profiler_) profiler_->after_step();
    if (is_due(config_.eval_steps, state_.step)) evaluate();
    answer_samples();
    const bool sound = state_.nonfinite == 0;
    if (sound && is_due(config_.save_steps, state_.step)) save_in_passing();
    note(writer_.poll());
  }
  return finish();
}

}  // namespace llama2zh
