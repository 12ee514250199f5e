#pragma once

#include <cstdint>
#include <vector>

namespace llama2zh {

// The order of [0, n) that belongs to (seed, epoch), or the natural one. Up to kStoredOrder numbers
// are a stored permutation (base/random.h); of more the place of each is computed, so that the
// memory does not grow with the corpus.
class UnitOrder {
 public:
  static constexpr int64_t kStoredOrder = int64_t{1} << 20;

  UnitOrder() = default;  // natural
  UnitOrder(int64_t n, uint64_t seed, uint64_t epoch);
  int64_t operator[](int64_t place) const;

 private:
  uint64_t encrypt(uint64_t value) const;
  std::vector<int64_t> stored_;
  uint64_t n_ = 0, key_ = 0;
  int half_bits_ = 0;  // 0: natural or stored
};

}  // namespace llama2zh
