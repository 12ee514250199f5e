// Uniform integers by rejection, uniform reals from the upper 53 bits; std::mt19937_64 itself is
// fixed by the standard, so that all results are the same everywhere.
#include "llama2zh/base/random.h"

#include <numeric>

#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

// splitmix64's finaliser (Steele, Lea, Flood 2014): neighbouring seeds become unrelated ones.
uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t Random::below(uint64_t bound) {
  if (bound == 0) fail_data("Random::below", "the bound must be at least 1");
  // Of the 2^64 values the lowest (2^64 mod bound) are refused: the rest is a multiple of bound.
  const uint64_t refused = (0 - bound) % bound;
  uint64_t value = next();
  while (value < refused) value = next();
  return value % bound;
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

std::string random_hex(int digits) {
  thread_local std::random_device device;
  std::string out;
  uint32_t bits = 0;
  for (int i = 0; i < digits; ++i, bits >>= 4) {
    if (i % 8 == 0) bits = device();
    out += "0123456789abcdef"[bits & 15];
  }
  return out;
}

std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t epoch) {
  if (n < 0) fail_data("permutation", "the size must not be negative");
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  Random random(mix64(mix64(seed) + epoch));
  random.shuffle(order);
  return order;
}

}  // namespace llama2zh
