#include "llama2zh/engine/block_pool.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace llama2zh {
namespace {

std::vector<TokenId> some_tokens(TokenId first) {
  std::vector<TokenId> tokens(kBlockTokens);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(BlockKeys, DependOnTokensAndWhatIsBefore) {
  const BlockKey first = block_key("", some_tokens(0));
  EXPECT_EQ(block_key("", some_tokens(0)), first);
  const std::set<BlockKey> keys = {first, block_key("", some_tokens(1)),
                                   block_key("adapter", some_tokens(0)),
                                   block_key(first, some_tokens(0))};
  EXPECT_EQ(keys.size(), 4u);
}

TEST(BlockPool, CountsHoldersAndAvailableBlocks) {
  BlockPool pool(3);
  const BlockId a = pool.allocate(), b = pool.allocate();
  EXPECT_EQ(a, 0);  // low numbers first: memory grows with them
  EXPECT_EQ(b, 1);
  EXPECT_EQ(pool.used(), 2);
  pool.share(a);
  pool.release(a);
  EXPECT_EQ(pool.used(), 2);
  pool.release(a);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_THROW(pool.release(a), std::exception);
  pool.allocate();
  pool.allocate();
  EXPECT_THROW(pool.allocate(), std::exception);
}

TEST(BlockPool, ReleasedBlocksAreFoundUntilTheirPlaceIsNeeded) {
  BlockPool pool(3);
  const BlockId a = pool.allocate(), b = pool.allocate(), c = pool.allocate();
  pool.publish(a, "a");
  pool.publish(b, "b");
  EXPECT_TRUE(pool.is_held("a"));
  pool.release(b);
  pool.release(a);
  pool.release(c);
  EXPECT_EQ(pool.available(), 3);
  EXPECT_FALSE(pool.is_held("a"));
  EXPECT_EQ(pool.find("b"), b);  // used again: now a is the one unused for longest
  pool.release(b);
  EXPECT_EQ(pool.allocate(), c);  // nothing in it
  EXPECT_EQ(pool.allocate(), a);
  EXPECT_EQ(pool.find("a"), -1);
  EXPECT_EQ(pool.find("b"), b);
  EXPECT_EQ(pool.holders(b), 1);
  EXPECT_EQ(pool.available(), 0);
}

TEST(BlockPool, TheFirstOfEqualBlocksIsFound) {
  BlockPool pool(2);
  const BlockId a = pool.allocate(), b = pool.allocate();
  pool.publish(a, "same");
  pool.publish(b, "same");
  EXPECT_FALSE(pool.published(b));
  EXPECT_EQ(pool.find("same"), a);
  pool.unpublish(b);
  EXPECT_EQ(pool.find("same"), a);
  pool.unpublish(a);
  EXPECT_EQ(pool.find("same"), -1);
}

TEST(BlockPool, WithoutPrefixCacheNothingIsFound) {
  BlockPool pool(2, /*prefix_cache=*/false);
  const BlockId a = pool.allocate();
  pool.publish(a, "a");
  EXPECT_EQ(pool.find("a"), -1);
}

TEST(BlockTable, NeedsNewBlocksAndCopiesOfSharedOnes) {
  BlockPool pool(4);
  BlockTable table{{pool.allocate(), pool.allocate()}, kBlockTokens + 3};
  EXPECT_EQ(table.needed(13, pool), 0);
  EXPECT_EQ(table.needed(14, pool), 1);
  pool.share(table.blocks[0]);  // full: never written again
  EXPECT_EQ(table.needed(13, pool), 0);
  pool.share(table.blocks[1]);
  EXPECT_EQ(table.needed(1, pool), 1);
  EXPECT_EQ(table.needed(14, pool), 2);
}

}  // namespace
}  // namespace llama2zh
