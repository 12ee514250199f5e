#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "llama2zh/model/llama_config.h"
#include "llama2zh/nn/attention_context.h"

namespace llama2zh {

// Keys and values of one sequence, grown by doubling up to max_position_embeddings. As an
// AttentionContext, one forward pass appends the T tokens announced by begin().
class KvCache : public AttentionContext {
 public:
  KvCache(const LlamaConfig& config, at::ScalarType dtype, at::Device device);

  void begin(int64_t tokens);  // the next forward pass holds so many tokens
  int64_t length() const { return length_; }
  void truncate(int64_t length);  // forget everything after the first `length` tokens (history
                                  // trimming, failed drafts)

  const at::Tensor& positions() const override { return positions_; }
  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override;

 private:
  void reserve(int64_t tokens);
  std::vector<at::Tensor> keys_, values_;  // a layer: [capacity, nk, d]
  at::Tensor positions_;
  int64_t length_ = 0, pending_ = 0, capacity_ = 0, max_length_;
  std::vector<int64_t> shape_;  // nk, d
  at::ScalarType dtype_;
  at::Device device_;
};

}  // namespace llama2zh
