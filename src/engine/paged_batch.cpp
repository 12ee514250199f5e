#include "llama2zh/engine/paged_batch.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <numeric>

namespace llama2zh {
namespace {

constexpr int64_t kFirstReserve = 16;

// The tensors that pages consist of.
std::vector<at::Tensor*> parts_of(KvPages& pages) {
  std::vector<at::Tensor*> parts = {&pages.keys, &pages.values};
  if (pages.key_scales.defined()) {
    parts.push_back(&pages.key_scales);
    parts.push_back(&pages.value_scales);
  }
  return parts;
}

}  // namespace

PageStore::PageStore(const LlamaConfig& config, int64_t blocks, at::ScalarType type,
                     at::Device device)
    : layers_(static_cast<size_t>(config.num_hidden_layers)),
      blocks_(blocks),
      kv_heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      type_(type),
      device_(device) {}

void PageStore::reserve(int64_t blocks) {
  TORCH_CHECK(blocks <= blocks_, "PageStore: ", blocks, " blocks wanted of ", blocks_);
  if (companion_ != nullptr) companion_->reserve(blocks);
  if (blocks <= reserved_) return;
  const int64_t grown = std::min(blocks_, std::max({blocks, 2 * reserved_, kFirstReserve}));
  for (KvPages& pages : layers_) {
    KvPages larger = make_kv_pages(grown, kv_heads_, head_dim_, type_, device_);
    if (reserved_ > 0) {
      const auto from = parts_of(pages), to = parts_of(larger);
      for (size_t i = 0; i < from.size(); ++i) to[i]->narrow(0, 0, reserved_).copy_(*from[i]);
    }
    pages = larger;
  }
  reserved_ = grown;
}

void PageStore::copy(BlockId from, BlockId to) {
  if (companion_ != nullptr) companion_->copy(from, to);
  for (KvPages& pages : layers_) {
    for (at::Tensor* part : parts_of(pages)) part->select(0, to).copy_(part->select(0, from));
  }
}

int64_t PageStore::block_bytes() const {
  KvPages one = make_kv_pages(1, kv_heads_, head_dim_, type_, at::kCPU);
  int64_t bytes = 0;
  for (const at::Tensor* part : parts_of(one)) bytes += static_cast<int64_t>(part->nbytes());
  return bytes * layers();
}

void make_room(BlockTable& table, int64_t tokens, BlockPool& pool, PageStore& store) {
  const auto end = static_cast<size_t>((table.length + tokens + kBlockTokens - 1) / kBlockTokens);
  const auto first = static_cast<size_t>(table.length / kBlockTokens);
  const auto take = [&] {
    const BlockId block = pool.allocate();
    try {
      store.reserve(block + 1);
    } catch (...) {  // out of memory
      pool.release(block);
      throw;
    }
    return block;
  };
  for (size_t i = first; i < table.blocks.size() && i < end; ++i) {
    const BlockId block = table.blocks[i];
    if (pool.holders(block) == 1) {
      pool.unpublish(block);
      continue;
    }
    table.blocks[i] = take();
    store.copy(block, table.blocks[i]);
    pool.release(block);
  }
  while (table.blocks.size() < end) table.blocks.push_back(take());
}

void release_blocks(BlockTable& table, BlockPool& pool) {
  for (auto it = table.blocks.rbegin(); it != table.blocks.rend(); ++it) pool.release(*it);
  table.blocks.clear();
  table.length = 0;
}

void PagedBatch::add(const BlockTable& table, int64_t rows) {
  sequences_.push_back({tokens_, rows, table.length + rows, table.blocks.data()});
  tokens_ += rows;
  positions_.reset();
}

const at::Tensor& PagedBatch::positions() const {
  if (positions_.defined()) return positions_;
  at::Tensor positions = at::empty({tokens_}, at::kLong);
  int64_t* next = positions.data_ptr<int64_t>();
  for (const PagedRows& sequence : sequences_) {
    std::iota(next, next + sequence.rows, sequence.length - sequence.rows);
    next += sequence.rows;
  }
  positions_ = positions.to(store_->device());
  return positions_;
}

at::Tensor PagedBatch::attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v) {
  const KvPages& pages = store_->layer(layer);
  write_pages(pages, k, v, sequences_);
  return paged_attention(q, pages, sequences_);
}

}  // namespace llama2zh
