#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace llama2zh {

// A bar on standard error with rate and ETA when it is a terminal, else a plain line at most every
// `plain_interval` seconds and one at the end. `total` 0: unknown (counts only). Not thread-safe:
// one thread updates.
class Progress {
 public:
  Progress(std::string_view title, int64_t total, std::string_view unit,
           double plain_interval = 10);
  ~Progress();
  // `note` is free text behind the bar: "loss 2.31 lr 1.0e-04 812 tokens/s".
  void update(int64_t done, std::string_view note = {});
  void finish(std::string_view note = {});

 private:
  std::string line(std::string_view note, bool bar) const;
  std::string title_, unit_, note_;
  int64_t total_, done_ = 0, first_done_ = -1;
  double plain_interval_;
  bool terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

bool stderr_is_terminal();
bool stdout_is_terminal();
bool use_colour();  // standard output is a terminal and NO_COLOR is not set
int terminal_width();

}  // namespace llama2zh
