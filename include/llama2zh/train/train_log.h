#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "llama2zh/base/json.h"
#include "llama2zh/train/batch_loss.h"
#include "llama2zh/train/device_memory.h"
#include "llama2zh/train/evaluate.h"
#include "llama2zh/train/event_file.h"

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
  double flops = 0;          // that the steps' mathematics needs (train/cost.h)
  double mfu = 0;            // flops / seconds / the machine's peak; 0: the peak is not known
  double throughput = 0;     // tokens/s since the session's start
  int64_t total_tokens = 0;  // of the whole run so far
  DeviceMemory memory;
  double data_wait = 0;               // share of the time spent waiting for micro-batches
  double elapsed = 0, remaining = 0;  // seconds, of this session
  int64_t skipped = 0;                // steps that were not applied
  int64_t nonfinite = 0;              // of them, because loss or gradients were not finite
  LossMetrics metrics;                // means that the loss itself knows
};

// "loss 2.3456  lr 1.00e-04  grad 0.52  812 tokens/s  MFU 61%  9.2 GiB", for the progress bar.
std::string progress_note(const LogRecord& record);

// trainer_log.jsonl: one JSON object a line, flushed, with LLaMA-Factory's keys (current_steps,
// total_steps, loss, lr, epoch, percentage, elapsed_time, remaining_time, throughput, total_tokens,
// on a GPU vram_allocated and vram_reserved: peaks in GiB) and ours (step, learning_rate, grad_norm,
// tokens, supervised_tokens, tokens_per_second, data_wait, mfu, memory: bytes now). Numbers that are not finite
// are null. Metrics of the loss (rewards/chosen, ...) stand under their own names, eval_NAME in lines of
// validation sets. The same numbers go to TensorBoard (train/event_file.h) under Hugging Face's tags
// (train/loss, train/grad_norm, train/learning_rate, train/epoch, eval/loss of the only validation
// set, eval/NAME_loss of one of several) and ours in the same manner. kIo if one can't be written.
class TrainLog {
 public:
  // Goes on after the line of step `after_step`: lines of later steps are dropped, since they will
  // come again; 0 begins anew. Without `tensorboard` no events are written.
  TrainLog(const std::filesystem::path& file, int64_t after_step, bool tensorboard = false);
  void write(const LogRecord& record);
  // `only_set`: the run has no other validation set.
  void write(const EvalResult& result, int64_t step, int64_t total_steps, double epoch,
             bool only_set);

 private:
  void write_line(const ordered_json& line);
  std::filesystem::path path_;
  std::ofstream out_;
  std::optional<EventFile> events_;
};

}  // namespace llama2zh
