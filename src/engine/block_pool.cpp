// As vLLM's block manager (Kwon et al. 2023, "Efficient Memory Management for Large Language Model
// Serving with PagedAttention"), with reference counts and a prefix cache by chained hashes.
#include "llama2zh/engine/block_pool.h"

#include <c10/util/Exception.h>

#include <string_view>

#include "llama2zh/base/hash.h"

namespace llama2zh {

BlockKey block_key(const BlockKey& before, std::span<const TokenId> tokens) {
  std::string bytes = before;
  bytes += '\n';
  bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  return sha256_hex(bytes);
}

BlockPool::BlockPool(int64_t blocks, bool prefix_cache)
    : prefix_cache_(prefix_cache), blocks_(static_cast<size_t>(blocks)) {
  for (int64_t i = blocks; i-- > 0;) blank_.push_back(static_cast<BlockId>(i));
}

BlockId BlockPool::allocate() {
  TORCH_CHECK(available() > 0, "BlockPool: no block is available");
  BlockId block = -1;
  if (!blank_.empty()) {
    block = blank_.back();
    blank_.pop_back();
  } else {
    block = kept_.front();
    kept_.pop_front();
    unpublish(block);
  }
  at(block).holders = 1;
  return block;
}

void BlockPool::share(BlockId block) { ++at(block).holders; }

void BlockPool::release(BlockId block) {
  Block& entry = at(block);
  TORCH_CHECK(entry.holders > 0, "BlockPool: block ", block, " is released once too often");
  if (--entry.holders > 0) return;
  if (entry.key.empty()) {
    blank_.push_back(block);
  } else {
    entry.place = kept_.insert(kept_.end(), block);
  }
}

void BlockPool::publish(BlockId block, const BlockKey& key) {
  if (!prefix_cache_ || !at(block).key.empty()) return;
  if (found_.emplace(key, block).second) at(block).key = key;
}

void BlockPool::unpublish(BlockId block) {
  Block& entry = at(block);
  if (entry.key.empty()) return;
  found_.erase(entry.key);
  entry.key.clear();
}

BlockId BlockPool::find(const BlockKey& key) {
  const auto it = found_.find(key);
  if (it == found_.end()) return -1;
  Block& entry = at(it->second);
  if (entry.holders++ == 0) kept_.erase(entry.place);
  return it->second;
}

bool BlockPool::is_held(const BlockKey& key) const {
  const auto it = found_.find(key);
  return it != found_.end() && at(it->second).holders > 0;
}

int64_t BlockTable::needed(int64_t tokens, const BlockPool& pool) const {
  const int64_t end = (length + tokens + kBlockTokens - 1) / kBlockTokens;
  const auto have = static_cast<int64_t>(blocks.size());
  int64_t count = end > have ? end - have : 0;
  for (int64_t i = length / kBlockTokens; i < have && i < end; ++i) {
    if (pool.holders(blocks[static_cast<size_t>(i)]) > 1) ++count;
  }
  return count;
}

}  // namespace llama2zh
