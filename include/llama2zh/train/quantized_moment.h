#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

// A tensor of this many elements or more is worth 8-bit moments (bitsandbytes' min_8bit_size).
inline constexpr int64_t kMinQuantized = 4096;

// One moment of one parameter in 8 bits: the 256 values of the dynamic map, times the largest
// magnitude of each block of 256 elements (Dettmers et al. 2022; bitsandbytes' blocksize 256).
// Elements are those of the parameter in memory order. On any device. Not thread-safe.
class QuantizedMoment {
 public:
  static constexpr int64_t kBlock = 256;
  // Zeros. is_signed: first moments; second moments are never negative and use the sign's bit.
  QuantizedMoment(int64_t elements, bool is_signed, at::Device device);

  // [count] fp32 from element `begin`, a multiple of kBlock.
  at::Tensor load(int64_t begin, int64_t count) const;
  // Rounds to the nearest value of the map; `values` as load() gives them.
  void store(int64_t begin, const at::Tensor& values);

  // For checkpoints: uint8 [elements], fp32 [blocks].
  at::Tensor& codes() { return codes_; }
  at::Tensor& absmax() { return absmax_; }
  const at::Tensor& codes() const { return codes_; }
  const at::Tensor& absmax() const { return absmax_; }

 private:
  at::Tensor load_on_cpu(int64_t begin, int64_t count) const;
  void store_on_cpu(int64_t begin, const at::Tensor& values);

  bool is_signed_;
  at::Tensor codes_, absmax_;
  at::Tensor map_, middles_;  // [256] ascending, [255] between neighbours
};

// The dynamic map (bitsandbytes' create_dynamic_map): [256] fp32, ascending, from -1 or 0 to 1.
at::Tensor dynamic_map(bool is_signed);

}  // namespace llama2zh
