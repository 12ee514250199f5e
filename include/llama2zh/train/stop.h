#pragma once

#include <chrono>
#include <string>

namespace llama2zh {

// Why a run should save and end before its last step: SIGINT or SIGTERM (base/signals.h) came, or
// its time is up. Cheap; any thread.
class StopRequest {
 public:
  using Clock = std::chrono::steady_clock;
  // `max_minutes` after `started`; 0: no limit.
  StopRequest(double max_minutes, Clock::time_point started);
  bool asked() const;
  std::string reason()
      const;  // "SIGTERM came", "train.max_minutes (90) are over"; empty: not asked

 private:
  bool time_is_up() const;
  double max_minutes_;
  Clock::time_point started_;
};

}  // namespace llama2zh
