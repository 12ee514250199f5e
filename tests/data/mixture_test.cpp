// Mixtures, orders too long to be stored, and reading ahead: every block once a pass, shares as asked
// for, the same from wherever it is taken up.
#include <ATen/core/Tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "data/interleave.h"
#include "data/unit_order.h"
#include "llama2zh/data/loader.h"
#include "llama2zh/data/prefetcher.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using ::testing::ElementsAre;
using testing::expect_error;

// `blocks` blocks of 8 tokens, ids `first` and up.
TokenRows rows_of_blocks(int64_t blocks, TokenId first) {
  TokenRows rows;
  for (int64_t i = 0; i < 2 * blocks; ++i)
    rows.add(std::vector<TokenId>(4, first + static_cast<TokenId>(i)), std::vector<uint8_t>(4, 1));
  return rows;
}

LoaderOptions block_options(int64_t micro_batch_size = 1) {
  LoaderOptions options;
  options.block_size = 8;
  options.micro_batch_size = micro_batch_size;
  return options;
}

std::vector<int64_t> blocks_of(const BatchLoader& loader, int64_t epoch) {
  std::vector<int64_t> blocks;
  for (int64_t i = 0; i < loader.batches(epoch); ++i) {
    const auto rows = loader.batch(epoch, i).rows;
    blocks.insert(blocks.end(), rows.begin(), rows.end());
  }
  return blocks;
}

std::vector<int64_t> in_epoch(const BatchLoader& loader) {
  std::vector<int64_t> counts;
  for (const auto& source : loader.sources()) counts.push_back(source.in_epoch);
  return counts;
}

TEST(Interleaving, EveryItemOnceAndSharesEverywhere) {
  const std::vector<int64_t> counts = {70, 20, 9, 0, 1};
  const Interleaving order(counts);
  std::vector<int64_t> next(counts.size(), 0);
  for (int64_t at = 0; at < order.size(); ++at) {
    const auto slot = order.at(at);
    EXPECT_EQ(slot.item, next[slot.source]++) << at;
    for (size_t source = 0; source < counts.size(); ++source) {
      const double due = static_cast<double>((at + 1) * counts[source]) / 100.0;
      EXPECT_NEAR(static_cast<double>(next[source]), due, 1.01) << at << " " << source;
    }
  }
  EXPECT_EQ(next, counts);
  const Interleaving large({int64_t{1} << 40, int64_t{1} << 30});  // no overflow
  EXPECT_EQ(large.at(0).source, 0u);
  EXPECT_EQ(large.at(large.size() - 1).item, (int64_t{1} << 40) - 1);
}

TEST(UnitOrder, LongOrdersArePermutationsToo) {
  const int64_t n = UnitOrder::kStoredOrder + 12345;
  const UnitOrder order(n, 7, 0), next(n, 7, 1), other(n, 8, 0);
  std::vector<bool> seen(static_cast<size_t>(n));
  int64_t same = 0, near = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = order[i];
    ASSERT_TRUE(at >= 0 && at < n && !seen[static_cast<size_t>(at)]) << i;
    seen[static_cast<size_t>(at)] = true;
    same += at == next[i] || at == other[i] ? 1 : 0;
    near += std::abs(at - i) < n / 100 ? 1 : 0;
  }
  EXPECT_LT(same, 20);
  EXPECT_NEAR(static_cast<double>(near) / static_cast<double>(n), 0.02, 0.002);
}

TEST(Mixture, WeightsGoOnUntilEverySourceWasSeen) {
  const TokenRows zh = rows_of_blocks(90, 0), en = rows_of_blocks(5, 1000);
  const BatchLoader loader({{&zh, 9.0, {}, {}}, {&en, 1.0, {}, {}}}, block_options());
  EXPECT_THAT(in_epoch(loader), ElementsAre(90, 10));
  const auto first = blocks_of(loader, 0);
  EXPECT_EQ(first.size(), 100u);
  std::map<int64_t, int> times;
  for (const int64_t block : first) ++times[block];
  for (const auto& [block, count] : times) EXPECT_EQ(count, block < 90 ? 1 : 2) << block;
  for (size_t i = 0; i < 100; i += 10)  // each ten blocks hold one of English
    EXPECT_EQ(std::count_if(&first[i], &first[i] + 10, [](int64_t b) { return b >= 90; }), 1) << i;
  EXPECT_NE(blocks_of(loader, 1), first);
  // A small source with a large weight: the other one has to be seen too.
  const BatchLoader small({{&zh, 1.0, {}, {}}, {&en, 1.0, {}, {}}}, block_options());
  EXPECT_THAT(in_epoch(small), ElementsAre(90, 90));
}

TEST(Mixture, EpochsAndTokensKeepTheirPlaceAcrossEpochs) {
  const TokenRows zh = rows_of_blocks(40, 0), en = rows_of_blocks(10, 1000);
  const BatchLoader loader({{&zh, {}, 0.5, {}}, {&en, {}, {}, 8 * 3 - 1}}, block_options(4));
  EXPECT_THAT(in_epoch(loader), ElementsAre(20, 3));
  EXPECT_EQ(loader.batches(0), 6);
  std::multiset<int64_t> two, ten;
  for (int64_t epoch = 0; epoch < 10; ++epoch) {
    for (const int64_t block : blocks_of(loader, epoch)) {
      if (block >= 40) ten.insert(block);
      if (block < 40 && epoch < 2) two.insert(block);
    }
  }
  EXPECT_EQ(two.size(), 40u);  // two halves: each block once
  EXPECT_EQ(std::set<int64_t>(two.begin(), two.end()).size(), 40u);
  EXPECT_EQ(ten.size(), 30u);  // 3 an epoch: three passes
  for (int64_t block = 40; block < 50; ++block) EXPECT_EQ(ten.count(block), 3u) << block;
}

TEST(Mixture, TheOrderDependsOnSeedAndStepAlone) {
  const TokenRows zh = rows_of_blocks(33, 0), en = rows_of_blocks(7, 1000);
  const std::vector<MixedRows> sources = {{&zh, {}, {}, {}}, {&en, {}, 1.5, {}}};
  LoaderOptions options = block_options(2);
  const BatchLoader loader(sources, options), again(sources, options);
  std::vector<std::vector<int64_t>> straight;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    for (int64_t i = 0; i < loader.batches(epoch); ++i)
      straight.push_back(loader.batch(epoch, i).rows);
  }
  const int64_t in_one = loader.batches(0);
  // Taken up anywhere, inside a later epoch too, by ranks that take turns.
  for (int64_t rank = 2; rank >= 0; --rank) {
    for (int64_t at = 17 + rank; at < 3 * in_one; at += 3)
      EXPECT_EQ(again.batch(at / in_one, at % in_one).rows, straight[static_cast<size_t>(at)]);
  }
  options.seed = 101;
  EXPECT_NE(blocks_of(BatchLoader(sources, options), 0), blocks_of(loader, 0));
  options.shuffle = false;
  const auto in_order = blocks_of(BatchLoader(sources, options), 0);
  std::vector<int64_t> of_zh;
  for (const int64_t block : in_order)
    if (block < 33) of_zh.push_back(block);
  EXPECT_TRUE(std::is_sorted(of_zh.begin(), of_zh.end()));
}

TEST(Mixture, DialoguesArePackedSourceBySource) {
  TokenRows a, b;
  for (TokenId i = 0; i < 50; ++i) {
    a.add(std::vector<TokenId>(2 + i % 5, i), std::vector<uint8_t>(2 + i % 5, 1));
    b.add(std::vector<TokenId>(3, 100 + i), std::vector<uint8_t>(3, 1));
  }
  LoaderOptions options = block_options();
  options.kind = RowKind::kSft;
  const BatchLoader loader({{&a, {}, {}, {}}, {&b, {}, 2.0, {}}}, options);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::map<int64_t, int> times;
    for (const int64_t row : blocks_of(loader, epoch)) ++times[row];
    EXPECT_EQ(times.size(), 100u);
    for (const auto& [row, count] : times) EXPECT_EQ(count, row < 50 ? 1 : 2) << row;
  }
}

TEST(Mixture, SharesThatDoNotGoTogether) {
  const TokenRows zh = rows_of_blocks(4, 0), en = rows_of_blocks(4, 0);
  TokenRows none;
  const auto load = [&](const MixedRows& a, const MixedRows& b) {
    BatchLoader({a, b}, block_options());
  };
  expect_error(ErrorKind::kUsage, "1 of 2 sources have a weight", [&] {
    load({&zh, 1.0, {}, {}}, {&en, {}, 1.0, {}});
  });
  expect_error(ErrorKind::kUsage, "source 2 has more than one of", [&] {
    load({&zh, {}, 1.0, {}}, {&en, {}, 1.0, 5});
  });
  expect_error(ErrorKind::kUsage, "lower its share", [&] {
    load({&zh, 1e-12, {}, {}}, {&en, 1.0, {}, {}});
  });
  expect_error(ErrorKind::kData, "source 2 has too few tokens", [&] {
    load({&zh, {}, {}, {}}, {&none, {}, {}, {}});
  });
}

TEST(BatchPrefetcher, GivesWhatTheLoaderGives) {
  const TokenRows zh = rows_of_blocks(23, 0);
  const BatchLoader loader(zh, block_options(2));
  for (const int64_t ahead : {0, 1, 5}) {
    BatchPrefetcher prefetcher(loader, ahead, /*stride=*/3);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      for (int64_t i = 1; i < loader.batches(epoch); i += 3)
        EXPECT_EQ(prefetcher.get(epoch, i).rows, loader.batch(epoch, i).rows);
    }
    // Not what was guessed.
    for (const int64_t i : {7, 7, 2, 3, 11})
      EXPECT_EQ(prefetcher.get(1, i).rows, loader.batch(1, i).rows);
    expect_error(ErrorKind::kData, "no micro-batch 12", [&] { prefetcher.get(0, 12); });
    EXPECT_EQ(prefetcher.get(0, 0).rows, loader.batch(0, 0).rows);
    EXPECT_GT(prefetcher.wait_seconds(), 0);
  }
}

}  // namespace
}  // namespace llama2zh
