#pragma once

#include <cstdint>
#include <string_view>

namespace llama2zh {

void log_plain(std::string_view line);  // as it is, whatever the level: lines of JSON

// While it lives, messages are written by a thread of their own: who logs never waits for standard
// error, which may be a pipe that nobody empties. 8,192 lines wait; then the oldest are lost. Its end
// gives what waits a second. One at a time.
class LogThread {
 public:
  LogThread();
  ~LogThread();
  LogThread(const LogThread&) = delete;
  LogThread& operator=(const LogThread&) = delete;
};
int64_t lost_log_lines();  // since the start

}  // namespace llama2zh
