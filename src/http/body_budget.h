#pragma once

#include <cstdint>
#include <optional>
#include <utility>

namespace llama2zh {

// Memory that the bodies of all connections share. One thread; shares must not outlive it.
class BodyBudget {
 public:
  explicit BodyBudget(int64_t bytes) : left_(bytes) {}

  class Share {
   public:
    Share(BodyBudget& budget, int64_t bytes) : budget_(&budget), bytes_(bytes) {
      budget.left_ -= bytes;
    }
    Share(Share&& other) noexcept : budget_(std::exchange(other.budget_, nullptr)) {
      bytes_ = other.bytes_;
    }
    Share& operator=(Share&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Share() {
      if (budget_ != nullptr) budget_->left_ += bytes_;
    }

   private:
    BodyBudget* budget_;
    int64_t bytes_ = 0;
  };

  // Nothing: so much is not left.
  std::optional<Share> take(int64_t bytes) {
    if (bytes > left_) return std::nullopt;
    return Share(*this, bytes);
  }

 private:
  int64_t left_;
};

}  // namespace llama2zh
