#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace llama2zh {

// Says for what a rank waits: once for each stay with the others that lasts longer than `patience`. A
// thread of its own looks from time to time; the thread that stays only notes that it does.
class WaitWatch {
 public:
  WaitWatch(int64_t rank, std::chrono::milliseconds patience);
  ~WaitWatch();
  WaitWatch(const WaitWatch&) = delete;
  WaitWatch& operator=(const WaitWatch&) = delete;

  // Stays of one thread, one within another; the innermost is the one that is spoken of. One that
  // `computes` as well (a backward pass that exchanges gradients) is long when it takes four times as
  // long as any before.
  class Stay {
   public:
    Stay(WaitWatch& watch, const std::string& what, bool computes);
    ~Stay();
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    friend class WaitWatch;
    WaitWatch& watch_;
    const std::string& what_;
    bool computes_, said_ = false;
    std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
    Stay* outer_ = nullptr;
  };

 private:
  void look();
  int64_t rank_;
  std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  Stay* stay_ = nullptr;                           // the innermost
  std::chrono::steady_clock::duration longest_{};  // of those that compute
  std::thread thread_;
};

}  // namespace llama2zh
