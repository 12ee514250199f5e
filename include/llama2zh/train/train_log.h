#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "llama2zh/base/json.h"
#include "llama2zh/train/evaluate.h"

namespace llama2zh {

// What one line about training says; sums and means are over the steps since the last line.
struct LogRecord {
  int64_t step = 0, total_steps = 0;
  double loss = 0;           // mean of the steps' losses
  double grad_norm = 0;      // of the last step, before clipping
  double learning_rate = 0;  // that the last step used
  double epoch = 0;
  int64_t tokens = 0, supervised = 0;
  double tokens_per_second = 0;
  double elapsed = 0, remaining = 0;  // seconds, of this session
  int64_t skipped = 0;                // steps that were not applied
};

// trainer_log.jsonl: one JSON object a line, flushed, with LLaMA-Factory's keys (current_steps,
// total_steps, loss, lr, epoch, percentage, elapsed_time, remaining_time) and ours (step,
// learning_rate, grad_norm, tokens, supervised_tokens, tokens_per_second). Numbers that are not
// finite are null. kIo if it can't be written.
class TrainLog {
 public:
  // Goes on after the line of step `after_step`: lines of later steps are dropped, since they will
  // come again; 0 begins anew.
  TrainLog(const std::filesystem::path& file, int64_t after_step);
  void write(const LogRecord& record);
  void write(const EvalResult& result, int64_t step, int64_t total_steps, double epoch);

 private:
  void write_line(const ordered_json& line);
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace llama2zh
