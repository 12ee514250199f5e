#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace llama2zh {

// Calls work(i) for each i in [0, n) on all cores, in no order. `work` must not throw.
template <typename Work>
void parallel_for(size_t n, const Work& work) {
  const size_t cores = std::max<size_t>(1, std::thread::hardware_concurrency());
  const size_t threads = std::min(n, cores);
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t i = next++; i < n; i = next++) work(i);
  };
  std::vector<std::jthread> helpers;
  for (size_t i = 1; i < threads; ++i) helpers.emplace_back(run);
  run();
}

}  // namespace llama2zh
