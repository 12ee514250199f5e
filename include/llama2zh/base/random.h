#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace llama2zh {

// Results of these depend only on the seed, on every platform (std::shuffle and the std
// distributions do not promise that).
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t next() { return engine_(); }
  uint64_t below(uint64_t bound);  // uniform in [0, bound), bound > 0, without modulo bias
  double uniform();                // [0, 1), 53 bits
  template <typename T>
  void shuffle(std::vector<T>& items) {  // Fisher-Yates
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::mt19937_64 engine_;
};

// So many hex digits that nobody can foresee, for ids. Thread-safe.
std::string random_hex(int digits);

// The permutation of [0, n) that belongs to (seed, epoch).
std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t epoch);

}  // namespace llama2zh
