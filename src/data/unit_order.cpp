// A permutation without a table: a Feistel network of eight rounds permutes [0, 2^(2 half_bits)), and
// a result outside [0, n) is put in again until one lies inside ("cycle walking": J. Black, P.
// Rogaway, Ciphers with Arbitrary Finite Domains, 2002). The domain is at most four times n.
#include "data/unit_order.h"

#include "llama2zh/base/random.h"

namespace llama2zh {
namespace {

constexpr int kRounds = 8;

uint64_t mix(uint64_t x) {  // the finalizer of splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

UnitOrder::UnitOrder(int64_t n, uint64_t seed, uint64_t epoch) : n_(static_cast<uint64_t>(n)) {
  if (n <= kStoredOrder) {
    stored_ = permutation(n, seed, epoch);
    return;
  }
  key_ = mix(mix(seed + 0x9e3779b97f4a7c15u) + epoch);
  while ((uint64_t{1} << (2 * half_bits_)) < n_) ++half_bits_;
}

uint64_t UnitOrder::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t next = left ^ (mix(right ^ mix(key_ + round)) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

int64_t UnitOrder::operator[](int64_t place) const {
  if (!stored_.empty()) return stored_[static_cast<size_t>(place)];
  if (half_bits_ == 0) return place;
  uint64_t value = static_cast<uint64_t>(place);
  do {
    value = encrypt(value);
  } while (value >= n_);
  return static_cast<int64_t>(value);
}

}  // namespace llama2zh
