#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>

#include "kernels/isa.h"

// Sixteen fp32 numbers at a time, by the compiler's vector extension: one source for every
// instruction set, and sums whose order does not depend on it. Everything here is inlined into the
// bodies that isa.h compiles several times.
namespace llama2zh::lanes {

constexpr int64_t kLanes = 16;
using Floats = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));

inline Floats spread(float value) { return value - Floats{}; }

inline Floats load(const float* p) {
  Floats result;
  std::memcpy(&result, p, sizeof result);
  return result;
}
inline Floats load(const c10::BFloat16* p) {
  Halves bits;
  std::memcpy(&bits, p, sizeof bits);
  const Words words = __builtin_convertvector(bits, Words) << 16;
  Floats result;
  std::memcpy(&result, &words, sizeof result);
  return result;
}

inline void store(float* p, Floats value) { std::memcpy(p, &value, sizeof value); }
// Rounds to nearest even; NaN stays NaN.
inline void store(c10::BFloat16* p, Floats value) {
  Words words;
  std::memcpy(&words, &value, sizeof words);
  const Words rounded = (words + 0x7FFF + ((words >> 16) & 1)) >> 16;
  const Words nan = Words{} + 0x7FC0;
  const Halves bits = __builtin_convertvector(value == value ? rounded : nan, Halves);
  std::memcpy(p, &bits, sizeof bits);
}

// The value after a round trip through T.
inline Floats rounded_to(const float*, Floats value) { return value; }
inline Floats rounded_to(const c10::BFloat16*, Floats value) {
  c10::BFloat16 narrow[kLanes];
  store(narrow, value);
  return load(narrow);
}

// The first `count` of sixteen, the rest zero; and storing only those.
template <typename T>
Floats load_part(const T* p, int64_t count) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(count) * sizeof(T));
  return load(buffer);
}
template <typename T>
void store_part(T* p, Floats value, int64_t count) {
  T buffer[kLanes];
  store(buffer, value);
  std::memcpy(p, buffer, static_cast<size_t>(count) * sizeof(T));
}

inline float sum(Floats value) {
  float total = 0;
  for (int64_t i = 0; i < kLanes; ++i) total += value[i];
  return total;
}
inline float largest(Floats value) {
  float result = value[0];
  for (int64_t i = 1; i < kLanes; ++i) result = value[i] > result ? value[i] : result;
  return result;
}
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// e^x within 2 ulp for x in [-87, 88], smaller ones as e^-87, NaN as NaN (Cephes' expf).
inline Floats exp(Floats x) {
  const Floats low = spread(-87.0f), high = spread(88.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Floats shift = spread(12582912.0f);  // 1.5 * 2^23: rounds to a whole number
  const Floats shifted = x * 1.44269504088896341f + shift;
  const Floats n = shifted - shift;
  const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = spread(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Words bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // 2^n: the shifted number's low bits are n
  Floats power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

// Calls step(offset, count) over [0, n) in sixteens; count is below 16 only for the last.
template <typename Step>
void for_lanes(int64_t n, const Step& step) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) step(i, kLanes);
  if (i < n) step(i, n - i);
}
template <typename T>
Floats load_up_to(const T* p, int64_t count) {
  return count == kLanes ? load(p) : load_part(p, count);
}
template <typename T>
void store_up_to(T* p, Floats value, int64_t count) {
  if (count == kLanes)
    store(p, value);
  else
    store_part(p, value, count);
}

}  // namespace llama2zh::lanes
