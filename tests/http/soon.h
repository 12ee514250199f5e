#pragma once

#include <chrono>
#include <thread>

namespace llama2zh::testing {

// Whether the condition comes true within so many seconds; asked every few milliseconds.
template <typename Condition>
bool soon(const Condition& condition, double seconds = 10) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace llama2zh::testing
