// trainer_log.jsonl, the file that LLaMA-Factory's tools plot. A resumed run repeats the steps
// after its checkpoint, so their old lines go first.
#include "llama2zh/train/train_log.h"

#include <cmath>
#include <cstdio>
#include <string>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "train/json_lines.h"

namespace llama2zh {
namespace {

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

double gibibytes(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

std::string progress_note(const LogRecord& record) {
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, "loss %.4f  lr %.2e  grad %.3g  %.0f tokens/s",
                record.loss, record.learning_rate, record.grad_norm, record.tokens_per_second);
  std::string note = numbers;
  if (record.mfu > 0) {
    std::snprintf(numbers, sizeof numbers, "  MFU %.3g%%", 100 * record.mfu);
    note += numbers;
  }
  return cat(note, "  ", human_bytes(record.memory.allocated));
}

TrainLog::TrainLog(const fs::path& file, int64_t after_step, bool tensorboard) : path_(file) {
  keep_json_lines(file, after_step);
  out_.open(file, std::ios::app | std::ios::binary);
  if (!out_) fail_io(file.string(), "can't be opened for writing", errno);
  if (tensorboard) events_.emplace(event_folder(file.parent_path(), after_step), after_step);
}

void TrainLog::write_line(const ordered_json& line) {
  out_ << line.dump() << '\n' << std::flush;
  if (!out_) fail_io(path_.string(), "can't be written", errno);
}

void TrainLog::write(const LogRecord& record) {
  const double share = static_cast<double>(record.step) /
                       static_cast<double>(std::max<int64_t>(1, record.total_steps));
  ordered_json line = {{"step", record.step},
                       {"current_steps", record.step},
                       {"total_steps", record.total_steps},
                       {"loss", number(record.loss)},
                       {"grad_norm", number(record.grad_norm)},
                       {"learning_rate", record.learning_rate},
                       {"lr", record.learning_rate},
                       {"epoch", record.epoch},
                       {"percentage", rounded(100 * share, 2)},
                       {"tokens", record.tokens},
                       {"supervised_tokens", record.supervised},
                       {"tokens_per_second", rounded(record.tokens_per_second, 1)},
                       {"throughput", rounded(record.throughput, 2)},
                       {"total_tokens", record.total_tokens},
                       {"memory", record.memory.allocated},
                       {"data_wait", rounded(record.data_wait, 5)},
                       {"elapsed_time", human_duration(record.elapsed)},
                       {"remaining_time", human_duration(record.remaining)}};
  if (record.mfu > 0) line["mfu"] = rounded(record.mfu, 4);
  if (record.memory.peak_reserved > 0) {
    line["vram_allocated"] = rounded(gibibytes(record.memory.peak_allocated), 2);
    line["vram_reserved"] = rounded(gibibytes(record.memory.peak_reserved), 2);
  }
  if (record.skipped > 0) line["skipped_steps"] = record.skipped;
  if (record.nonfinite > 0) line["nonfinite_steps"] = record.nonfinite;
  for (const auto& [name, value] : record.metrics) line[name] = number(value);
  write_line(line);
  if (!events_) return;
  const auto scalar = [&](const char* tag, double value) {
    events_->scalar(tag, record.step, value);
  };
  scalar("train/loss", record.loss);
  scalar("train/grad_norm", record.grad_norm);
  scalar("train/learning_rate", record.learning_rate);
  scalar("train/epoch", record.epoch);
  scalar("train/tokens_per_second", record.tokens_per_second);
  scalar("train/memory_gib", gibibytes(record.memory.allocated));
  if (record.mfu > 0) scalar("train/mfu", record.mfu);
  for (const auto& [name, value] : record.metrics) scalar(("train/" + name).c_str(), value);
}

void TrainLog::write(const EvalResult& result, int64_t step, int64_t total_steps, double epoch,
                     bool only_set) {
  ordered_json line = {{"step", step},
                       {"current_steps", step},
                       {"total_steps", total_steps},
                       {"epoch", epoch},
                       {"eval_set", result.name},
                       {"eval_loss", number(result.loss)},
                       {"eval_tokens", result.tokens},
                       {"eval_runtime", rounded(result.seconds, 3)}};
  if (result.metrics.empty()) line["eval_perplexity"] = number(result.perplexity());
  for (const auto& [name, value] : result.metrics) line["eval_" + name] = number(value);
  if (result.bits_per_character) {
    line["eval_bits_per_character"] = number(*result.bits_per_character);
  }
  write_line(line);
  if (!events_) return;
  const std::string prefix = only_set ? "eval/" : cat("eval/", result.name, "_");
  events_->scalar(prefix + "loss", step, result.loss);
  events_->scalar(prefix + "runtime", step, result.seconds);
  for (const auto& [name, value] : result.metrics) events_->scalar(prefix + name, step, value);
}

}  // namespace llama2zh
