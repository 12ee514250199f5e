#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace llama2zh {

// The one line at the foot of the terminal that a progress bar draws and redraws; log messages go
// above it. Standard error must be a terminal. Thread-safe.
void set_status_line(std::string_view text);
void clear_status_line();

// While one lives, standard error belongs to its owner: the line is cleared and comes back at the
// end.
class StatusLinePause {
 public:
  StatusLinePause();
  ~StatusLinePause();
  StatusLinePause(const StatusLinePause&) = delete;
  StatusLinePause& operator=(const StatusLinePause&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace llama2zh
