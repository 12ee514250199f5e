#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace llama2zh {

// What one forward pass attends over. Training and inference differ only in this: packed sequences
// with boundaries, or a cache of keys and values.
class AttentionContext {
 public:
  virtual ~AttentionContext() = default;
  // Position of each of the T tokens in its own sequence: [T] int64, on the model's device.
  virtual const at::Tensor& positions() const = 0;
  // q [T, nq, d], k and v [T, nk, d], rotated already -> [T, nq, d]. Called once a layer, layers in
  // order (and again on recomputation when training).
  virtual at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v) = 0;
};

// Sequences laid end to end, each seeing itself only, causally.
class PackedSequences : public AttentionContext {
 public:
  // boundaries: 0, end of the first sequence, ..., T.
  PackedSequences(std::vector<int64_t> boundaries, at::Device device);
  // One sequence of `length` tokens.
  PackedSequences(int64_t length, at::Device device)
      : PackedSequences(std::vector<int64_t>{0, length}, device) {}
  const at::Tensor& positions() const override { return positions_; }
  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override;

 private:
  std::vector<int64_t> boundaries_;
  at::Tensor positions_;
};

}  // namespace llama2zh
