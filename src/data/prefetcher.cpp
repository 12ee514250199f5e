// A queue that one thread fills along the guessed sequence. A question that is not the queue's front
// empties it and begins a new sequence there; what the thread was about to add of the old one is
// told apart by the sequence's number.
#include "llama2zh/data/prefetcher.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace llama2zh {
namespace {

struct BatchPlace {
  int64_t epoch = 0, index = 0;
  bool operator==(const BatchPlace&) const = default;
};

struct ReadyBatch {
  BatchPlace place;
  PackedBatch batch;
  std::exception_ptr error;
};

}  // namespace

struct BatchPrefetcher::State {
  State(const BatchLoader& source, int64_t most, int64_t step)
      : loader(source), ahead(most), stride(step) {}

  BatchPlace after(BatchPlace place) const {
    const BatchPlace following{place.epoch, place.index + stride};
    if (following.index < loader.batches(place.epoch)) return following;
    return {place.epoch + 1, place.index % stride};
  }

  void read_ahead() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(
          lock, [this] { return stop || (started && static_cast<int64_t>(ready.size()) < ahead); });
      if (stop) return;
      ReadyBatch made{next, {}, {}};
      const int64_t of_sequence = sequence;
      lock.unlock();
      try {
        made.batch = loader.batch(made.place.epoch, made.place.index);
      } catch (...) {
        made.error = std::current_exception();
      }
      lock.lock();
      if (of_sequence != sequence) continue;
      next = after(made.place);
      ready.push_back(std::move(made));
      changed.notify_all();
    }
  }

  PackedBatch get(BatchPlace place) {
    std::unique_lock lock(mutex);
    const BatchPlace front = ready.empty() ? next : ready.front().place;
    if (!started || !(front == place)) {
      ready.clear();
      next = place;
      started = true;
      ++sequence;
      changed.notify_all();
    }
    changed.wait(lock, [this] { return !ready.empty(); });
    ReadyBatch batch = std::move(ready.front());
    ready.pop_front();
    lock.unlock();
    changed.notify_all();
    if (batch.error) std::rethrow_exception(batch.error);
    return std::move(batch.batch);
  }

  const BatchLoader& loader;
  const int64_t ahead, stride;
  double waited = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<ReadyBatch> ready;
  BatchPlace next;  // that the thread will make
  int64_t sequence = 0;
  bool started = false, stop = false;
  std::jthread thread;  // last: it ends before the rest is gone
};

BatchPrefetcher::BatchPrefetcher(const BatchLoader& loader, int64_t ahead, int64_t stride)
    : state_(std::make_unique<State>(loader, ahead, stride)) {
  if (ahead > 0) state_->thread = std::jthread([state = state_.get()] { state->read_ahead(); });
}

BatchPrefetcher::~BatchPrefetcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
}

PackedBatch BatchPrefetcher::get(int64_t epoch, int64_t index) {
  const auto start = std::chrono::steady_clock::now();
  PackedBatch batch =
      state_->ahead > 0 ? state_->get({epoch, index}) : state_->loader.batch(epoch, index);
  state_->waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return batch;
}

double BatchPrefetcher::wait_seconds() const { return state_->waited; }

}  // namespace llama2zh
