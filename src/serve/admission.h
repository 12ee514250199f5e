#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

namespace llama2zh {

// Counts what is being answered and says no where it becomes too much. Thread-safe.
class Admission {
 public:
  // answers: that may be under way, running or waiting; tokens: of all their prompts together.
  Admission(int64_t answers, int64_t tokens) : most_answers_(answers), most_tokens_(tokens) {}

  // Held for as long as the request is under way. ApiFailure 429 where there is no room; a prompt
  // that is alone always has room.
  using Ticket = std::shared_ptr<void>;
  Ticket admit(int64_t answers, int64_t tokens);
  int64_t refusals() const;

 private:
  void leave(int64_t answers, int64_t tokens);
  const int64_t most_answers_, most_tokens_;
  mutable std::mutex mutex_;  // guards what follows
  int64_t answers_ = 0, tokens_ = 0, refusals_ = 0;
};

}  // namespace llama2zh
