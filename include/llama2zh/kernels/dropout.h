#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace llama2zh {

// Inverted dropout whose mask is a hash of a seed and an element's number, so that a training step
// keeps eight bytes instead of a mask, and forms it on all threads. For contiguous fp32 or bfloat16
// tensors on a CPU of at most 2^32 elements.
class HashedDropout {
 public:
  // Drops with probability p in [0, 1); the rest is scaled by 1 / (1 - p).
  HashedDropout(double p, uint64_t seed);
  // With a seed from libtorch's default CPU generator, whose state a checkpoint keeps.
  static HashedDropout draw(double p);
  static bool supports(const at::Tensor& x);

  at::Tensor apply(const at::Tensor& x) const;                // mask * x / (1 - p)
  void add_to(at::Tensor& total, const at::Tensor& x) const;  // total += mask * x / (1 - p)
  double p() const { return p_; }
  uint64_t seed() const { return seed_; }

 private:
  double p_;
  uint64_t seed_;
};

}  // namespace llama2zh
