#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "llama2zh/kernels/paged_attention.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

using BlockId = int32_t;
inline constexpr int64_t kBlockTokens = kPageTokens;  // a block is a page in every layer

// What a full block holds: SHA-256 of its tokens and of the key before it, so that equal keys mean
// equal tokens from the sequence's first on. `before` is empty for the first block, or names what
// else keys and values depend on (an adapter).
using BlockKey = std::string;
BlockKey block_key(const BlockKey& before, std::span<const TokenId> tokens);

// Which blocks of the cache are in use, by how many sequences, and what the others still hold: only
// numbers, the memory is PageStore's. A block that is released keeps its key and can be found again
// until its place is needed; then the one unused for longest goes first. Not thread-safe.
class BlockPool {
 public:
  explicit BlockPool(int64_t blocks, bool prefix_cache = true);

  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t used() const { return size() - available(); }  // that sequences hold
  int64_t available() const { return static_cast<int64_t>(blank_.size() + kept_.size()); }

  // A block without contents, held once. There must be one available.
  BlockId allocate();
  void share(BlockId block);    // one more holder
  void release(BlockId block);  // one less; the last one makes it available
  int64_t holders(BlockId block) const { return at(block).holders; }

  // The block is full and holds what `key` says. Nothing happens if another block does already, or
  // without prefix cache.
  void publish(BlockId block, const BlockKey& key);
  // Its contents are about to change.
  void unpublish(BlockId block);
  bool published(BlockId block) const { return !at(block).key.empty(); }
  // A block that holds `key`, held once more; -1 if there is none.
  BlockId find(const BlockKey& key);
  // Whether find() would give a block that others hold already, so that it takes none away.
  bool is_held(const BlockKey& key) const;

 private:
  struct Block {
    int64_t holders = 0;
    BlockKey key;                        // empty: not published
    std::list<BlockId>::iterator place;  // in kept_, when nobody holds it but it has a key
  };
  const Block& at(BlockId block) const { return blocks_[static_cast<size_t>(block)]; }
  Block& at(BlockId block) { return blocks_[static_cast<size_t>(block)]; }

  bool prefix_cache_;
  std::vector<Block> blocks_;
  std::vector<BlockId> blank_;  // available, nothing in them; the lowest number last
  std::list<BlockId> kept_;     // available, still published; the longest unused first
  std::unordered_map<BlockKey, BlockId> found_;
};

// The blocks of one sequence, in order, of which the first `length` tokens are computed.
struct BlockTable {
  std::vector<BlockId> blocks;
  int64_t length = 0;
  // Blocks that writing `tokens` more needs: new ones, and copies of shared ones.
  int64_t needed(int64_t tokens, const BlockPool& pool) const;
};

}  // namespace llama2zh
