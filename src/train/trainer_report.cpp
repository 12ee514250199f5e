// What a Trainer tells: log lines, evaluations, samples.
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/train/trainer.h"
#include "train/due.h"

namespace llama2zh {
namespace {

constexpr int64_t kStepsForEstimate = 3;

std::string evaluation_note(const EvalResult& result) {
  std::ostringstream text;
  text << result.name << " loss " << std::fixed << std::setprecision(4) << result.loss;
  if (result.metrics.empty()) {
    text << ", perplexity " << std::setprecision(2) << result.perplexity();
  }
  for (const auto& [name, value] : result.metrics) text << ", " << name << " " << value;
  if (result.bits_per_character) {
    text << ", bits per character " << std::setprecision(4) << *result.bits_per_character;
  }
  return text.str();
}

}  // namespace

void Trainer::log_step(const StepResult& result, double seconds) {
  last_ = result;
  ++session_steps_;
  session_seconds_ += seconds;
  session_tokens_ += result.tokens;
  ++window_steps_;
  window_seconds_ += seconds;
  if (std::isfinite(result.loss)) {
    window_.loss += result.loss;
    ++window_losses_;
  }
  window_.tokens += result.tokens;
  window_.supervised += result.supervised;
  window_.skipped += result.skipped ? 1 : 0;
  window_.nonfinite += result.finite ? 0 : 1;
  const int64_t left = steps_.total() - state_.step;
  const double per_step = session_seconds_ / static_cast<double>(session_steps_);
  LogRecord record = window_;
  record.step = state_.step;
  record.total_steps = steps_.total();
  record.loss /= static_cast<double>(window_losses_);  // NaN if there was none
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
  const bool due = is_due(config_.logging_steps, state_.step) || left == 0;
  if (due && parts_.loss != nullptr) record.metrics = parts_.loss->take_metrics(parts_.group);
  if (!is_first()) {
    window_ = {};
    return;
  }
  progress_->update(state_.step, progress_note(record));
  if (session_steps_ == kStepsForEstimate && left > 0) {
    log_info(
        cat("about ", human_duration(record.remaining), " for the remaining ", left, " steps"));
  }
  if (!due) return;
  log_->write(record);
  history_.add(record);
  window_ = {};
  window_steps_ = window_losses_ = 0;
  window_seconds_ = 0;
  window_wait_ = batches_.wait_seconds();
}

void Trainer::evaluate() {
  std::vector<EvalResult> results;
  const auto stop = [this] { return stop_.asked(); };
  for (const ValidationSet& set : parts_.validation) {
    const auto result =
        evaluate_loss(*parts_.model, set, config_.head_chunk_rows, stop, parts_.group);
    if (!result) return;  // saving is more urgent
    results.push_back(*result);
    if (!is_first()) continue;
    log_->write(*result, state_.step, steps_.total(), epoch(), parts_.validation.size() == 1);
    log_info(cat("step ", state_.step, ": ", evaluation_note(*result)));
  }
  state_.evaluated = state_.step;
  if (results.empty()) return;
  history_.add(results, state_.step, epoch());
  guard_.update(state_.guard, results);
  if (guard_.watches() && is_first()) {
    const std::string text = guard_.describe(state_.guard);
    guard_.over_budget(state_.guard) ? log_warning("forgetting: " + text)
                                     : log_info("forgetting: " + text);
  }
  if (state_.step == 0) return;  // the base model is no candidate for the best
  latest_loss_ = best_rule_.metric(results);
  if (best_rule_.update(state_.best, *latest_loss_, state_.step)) {
    best_evaluation_ = results;
    if (config_.load_best_model_at_end) save_in_passing();
  }
  evaluation_ = std::move(results);
}

void Trainer::answer_samples() {
  if (!parts_.sample || stop_.asked() || !is_first()) return;
  const int64_t every = config_.sample_steps > 0 ? config_.sample_steps : config_.eval_steps;
  if (is_due(every, state_.step)) parts_.sample(state_.step, [this] { return stop_.asked(); });
}

}  // namespace llama2zh
