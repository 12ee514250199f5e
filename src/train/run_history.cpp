// trainer_state.json of transformers 5 (trainer_callback.py, TrainerState), which tools such as
// LLaMA-Factory's plots read. Entries are kept as text: a checkpoint is written from another thread
// and 50,000 parsed entries would be slow to copy.
#include "llama2zh/train/run_history.h"

#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "train/checkpoint_files.h"

namespace llama2zh {
namespace {

void put_finite(ordered_json& entry, const std::string& key, double value) {
  if (std::isfinite(value)) entry[key] = value;
}

// 6 operations for each parameter outside the embedding and each token, Hugging Face's estimate.
double total_operations(const LlamaConfig& model, int64_t tokens) {
  const int64_t embedding = model.vocab_size * model.hidden_size;
  return 6.0 * static_cast<double>(model.parameter_count() - embedding) *
         static_cast<double>(tokens);
}

}  // namespace

double mean_eval_loss(const std::vector<EvalResult>& results) {
  double sum = 0;
  for (const EvalResult& result : results) sum += result.loss;
  return sum / static_cast<double>(results.size());
}

void RunHistory::add(const LogRecord& record) {
  ordered_json entry = {{"epoch", record.epoch}};
  put_finite(entry, "grad_norm", record.grad_norm);
  entry["learning_rate"] = record.learning_rate;
  put_finite(entry, "loss", record.loss);
  for (const auto& [name, value] : record.metrics) put_finite(entry, name, value);
  entry["step"] = record.step;
  entries_.push_back(entry.dump());
}

void RunHistory::add(const std::vector<EvalResult>& results, int64_t step, double epoch) {
  for (const EvalResult& result : results) {
    const std::string prefix = results.size() == 1 ? "eval_" : cat("eval_", result.name, "_");
    ordered_json entry = {{"epoch", epoch}};
    put_finite(entry, prefix + "loss", result.loss);
    for (const auto& [name, value] : result.metrics) put_finite(entry, prefix + name, value);
    entry[prefix + "runtime"] = result.seconds;
    put_finite(entry, prefix + "samples_per_second",
               static_cast<double>(result.rows) / result.seconds);
    put_finite(entry, prefix + "steps_per_second",
               static_cast<double>(result.batches) / result.seconds);
    entry["step"] = step;
    entries_.push_back(entry.dump());
  }
  if (results.size() < 2) return;
  ordered_json mean = {{"epoch", epoch}};
  put_finite(mean, "eval_loss", mean_eval_loss(results));
  mean["step"] = step;
  entries_.push_back(mean.dump());
}

void RunHistory::read(const fs::path& checkpoint) {
  entries_.clear();
  const fs::path file = checkpoint / kTrainerStateFile;
  if (!fs::exists(file)) return;
  const ordered_json value = read_ordered_json_file(file);
  const auto history = value.find("log_history");
  if (history == value.end() || !history->is_array()) {
    fail_format(file.string(), "\"log_history\" is missing or not an array");
  }
  for (const ordered_json& entry : *history) entries_.push_back(entry.dump());
}

std::string RunHistory::trainer_state(const fs::path& output_dir, const TrainingState& state,
                                      const TrainerConfig& config, const LlamaConfig& model,
                                      int64_t total_steps, double epoch) const {
  const BestModel& best = state.best;
  ordered_json head = {{"best_global_step", nullptr},
                       {"best_metric", nullptr},
                       {"best_model_checkpoint", nullptr},
                       {"epoch", epoch},
                       {"eval_steps", config.eval_steps},
                       {"global_step", state.step},
                       {"is_hyper_param_search", false},
                       {"is_local_process_zero", true},
                       {"is_world_process_zero", true},
                       {"logging_steps", config.logging_steps},
                       {"max_steps", total_steps},
                       {"num_input_tokens_seen", state.tokens},
                       {"num_train_epochs", std::ceil(config.num_train_epochs)},
                       {"save_steps", config.save_steps},
                       {"stateful_callbacks", ordered_json::object()},
                       {"total_flos", total_operations(model, state.tokens)},
                       {"train_batch_size", config.micro_batch_size},
                       {"trial_name", nullptr},
                       {"trial_params", nullptr}};
  if (best.loss) {
    head["best_global_step"] = best.step;
    head["best_metric"] = *best.loss;
  }
  if (best.checkpoint > 0) {
    head["best_model_checkpoint"] = (output_dir / cat(kCheckpointPrefix, best.checkpoint)).string();
  }
  if (config.early_stopping_patience > 0) {
    head["stateful_callbacks"]["EarlyStoppingCallback"] = {
        {"args",
         {{"early_stopping_patience", config.early_stopping_patience},
          {"early_stopping_threshold", config.early_stopping_threshold}}},
        {"attributes", {{"early_stopping_patience_counter", best.without_improvement}}}};
  }
  std::string text = head.dump(2);
  text.erase(text.rfind('\n'));  // the closing brace comes after the log
  return cat(text, ",\n  \"log_history\": [\n    ", join(entries_, ",\n    "), "\n  ]\n}\n");
}

}  // namespace llama2zh
