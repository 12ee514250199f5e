#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "llama2zh/engine/block_pool.h"
#include "llama2zh/kernels/paged_attention.h"
#include "llama2zh/model/llama_config.h"
#include "llama2zh/nn/attention_context.h"

namespace llama2zh {

// The memory of all blocks: pages of every layer, grown by doubling as higher block numbers come
// into use, up to the pool's size.
class PageStore {
 public:
  // `type`: of the activations, or kChar for int8 with a scale for each token and head.
  PageStore(const LlamaConfig& config, int64_t blocks, at::ScalarType type, at::Device device);

  void reserve(int64_t blocks);  // block numbers below this can be used
  void copy(BlockId from, BlockId to);
  // Another store, which must outlive this one, in which the same block numbers are used.
  void share_numbers(PageStore& other) { companion_ = &other; }
  KvPages& layer(int64_t index) { return layers_[static_cast<size_t>(index)]; }
  at::Device device() const { return device_; }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  int64_t block_bytes() const;  // over all layers

 private:
  std::vector<KvPages> layers_;
  int64_t blocks_, reserved_ = 0, kv_heads_, head_dim_;
  at::ScalarType type_;
  at::Device device_;
  PageStore* companion_ = nullptr;
};

// Makes room for `tokens` more in `table`: takes blocks, and copies one that others hold before it
// is written to (copy on write). `needed` blocks must be available.
void make_room(BlockTable& table, int64_t tokens, BlockPool& pool, PageStore& store);
// Gives all blocks back, the last first, so that the beginning of a text is found for longest.
void release_blocks(BlockTable& table, BlockPool& pool);

// One forward pass over some tokens of several sequences: chunks of prompts and single new tokens in
// any mixture. Rows follow each other in the order of add(). For the model's rotary tables
// ("dynamic" scaling takes rising positions for one sequence) no sequence may begin right behind the
// position that the one before ended with: add the furthest first.
class PagedBatch : public AttentionContext {
 public:
  explicit PagedBatch(PageStore& store) : store_(&store) {}

  // The next `rows` tokens of the sequence, for which make_room() was called. The table must stay
  // as it is until the pass is over; its length is the caller's to raise then.
  void add(const BlockTable& table, int64_t rows);
  int64_t tokens() const { return tokens_; }

  const at::Tensor& positions() const override;
  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override;

 private:
  PageStore* store_;
  std::vector<PagedRows> sequences_;
  int64_t tokens_ = 0;
  mutable at::Tensor positions_;
};

}  // namespace llama2zh
