#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace llama2zh {

// Calls back at points in time, on a thread of its own. Thread-safe.
class Deadlines {
 public:
  using Clock = std::chrono::steady_clock;
  Deadlines();
  ~Deadlines();
  Deadlines(const Deadlines&) = delete;
  Deadlines& operator=(const Deadlines&) = delete;

  // Calls once, unless what is returned is dropped before.
  using Handle = std::shared_ptr<std::function<void()>>;
  Handle call_at(Clock::time_point when, std::function<void()> callback);

 private:
  void run();
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::weak_ptr<std::function<void()>>> waiting_;
  bool stopping_ = false;
  std::thread thread_;  // last
};

}  // namespace llama2zh
