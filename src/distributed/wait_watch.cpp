// The thread wakes four times within the patience, whatever the ranks do: an exchange costs two locks.
#include "distributed/wait_watch.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

using Clock = std::chrono::steady_clock;

WaitWatch::WaitWatch(int64_t rank, std::chrono::milliseconds patience)
    : rank_(rank), patience_(patience), thread_([this] { look(); }) {}

WaitWatch::~WaitWatch() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

WaitWatch::Stay::Stay(WaitWatch& watch, const std::string& what, bool computes)
    : watch_(watch), what_(what), computes_(computes) {
  const std::lock_guard lock(watch_.mutex_);
  outer_ = std::exchange(watch_.stay_, this);
}

WaitWatch::Stay::~Stay() {
  const std::lock_guard lock(watch_.mutex_);
  watch_.stay_ = outer_;
  if (computes_) watch_.longest_ = std::max(watch_.longest_, Clock::now() - since_);
}

void WaitWatch::look() {
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, patience_ / 4, [this] { return end_; })) {
    if (stay_ == nullptr || stay_->said_) continue;
    const Clock::duration stayed = Clock::now() - stay_->since_;
    if (stayed < patience_ || (stay_->computes_ && stayed < 4 * longest_)) continue;
    stay_->said_ = true;
    const std::string time =
        cat(std::round(std::chrono::duration<double>(stayed).count() * 10) / 10, " s");
    const std::string text =
        stay_->computes_
            ? cat("rank ", rank_, " has been at ", stay_->what_, " for ", time,
                  ", computing or waiting for the others")
            : cat("rank ", rank_, " has waited ", time, " for the others: ", stay_->what_);
    lock.unlock();
    log_warning(text);
    lock.lock();
  }
}

}  // namespace llama2zh
