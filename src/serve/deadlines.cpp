#include "serve/deadlines.h"

#include <utility>

namespace llama2zh {

Deadlines::Deadlines() : thread_([this] { run(); }) {}

Deadlines::~Deadlines() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Deadlines::Handle Deadlines::call_at(Clock::time_point when, std::function<void()> callback) {
  Handle handle = std::make_shared<std::function<void()>>(std::move(callback));
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.expired(); });
  waiting_.emplace(when, handle);
  changed_.notify_all();
  return handle;
}

void Deadlines::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (waiting_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = waiting_.begin();
    if (Clock::now() < first->first) {
      changed_.wait_until(lock, first->first);
      continue;
    }
    const Handle callback = first->second.lock();
    waiting_.erase(first);
    if (!callback) continue;
    lock.unlock();
    (*callback)();
    lock.lock();
  }
}

}  // namespace llama2zh
