#include "llama2zh/train/stop.h"

#include <csignal>

#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

StopRequest::StopRequest(double max_minutes, Clock::time_point started)
    : max_minutes_(max_minutes), started_(started) {}

bool StopRequest::time_is_up() const {
  const std::chrono::duration<double, std::ratio<60>> minutes = Clock::now() - started_;
  return max_minutes_ > 0 && minutes.count() >= max_minutes_;
}

bool StopRequest::asked() const { return stop_requested() || time_is_up(); }

std::string StopRequest::reason() const {
  if (stop_requested()) return stop_signal() == SIGINT ? "SIGINT came" : "SIGTERM came";
  return time_is_up() ? cat("train.max_minutes (", max_minutes_, ") are over") : "";
}

}  // namespace llama2zh
