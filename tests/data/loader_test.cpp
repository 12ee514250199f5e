#include "llama2zh/data/loader.h"

#include <ATen/core/Tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "data/epoch_plan.h"
#include "llama2zh/base/random.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> values(const at::Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

void add_row(TokenRows& rows, const std::vector<TokenId>& ids, const std::vector<uint8_t>& marks) {
  rows.add(ids, marks);
}

// Rows of 2 to `longest` tokens; token ids tell row and position: 1000 * row + position.
TokenRows random_rows(int64_t count, int64_t longest, uint64_t seed) {
  Random random(seed);
  TokenRows rows;
  for (int64_t row = 0; row < count; ++row) {
    const auto length = 2 + static_cast<int64_t>(random.below(static_cast<uint64_t>(longest - 1)));
    std::vector<TokenId> ids;
    std::vector<uint8_t> marks;
    for (int64_t i = 0; i < length; ++i) {
      ids.push_back(static_cast<TokenId>(1000 * row + i));
      marks.push_back(i == length - 1 || random.below(2) == 0 ? 1 : 0);
    }
    rows.add(ids, marks);
  }
  return rows;
}

TEST(BatchLoader, PretrainingBlocksByHand) {
  TokenRows rows;
  add_row(rows, {1, 10, 11, 2}, {1, 1, 1, 1});
  add_row(rows, {1, 20, 2}, {1, 1, 1});
  add_row(rows, {1, 30, 31, 32, 2}, {1, 1, 1, 1, 1});
  LoaderOptions options;
  options.block_size = 5;
  options.micro_batch_size = 2;
  options.shuffle = false;
  BatchLoader loader(rows, options);
  ASSERT_EQ(loader.batches(0), 2);  // 12 tokens: blocks of 5, 5 and 2
  PackedBatch batch = loader.batch(0, 0);
  EXPECT_THAT(values(batch.ids), ElementsAre(1, 10, 11, 2, 1, 20, 2, 1, 30, 31));
  EXPECT_THAT(values(batch.labels), ElementsAre(10, 11, 2, 1, -100, 2, 1, 30, 31, -100));
  EXPECT_THAT(batch.boundaries, ElementsAre(0, 5, 10));
  EXPECT_THAT(batch.rows, ElementsAre(0, 1));
  EXPECT_EQ(batch.supervised, 8);
  batch = loader.batch(0, 1);
  EXPECT_THAT(values(batch.ids), ElementsAre(32, 2));
  EXPECT_THAT(values(batch.labels), ElementsAre(2, -100));

  options.cross_documents = false;
  batch = BatchLoader(rows, options).batch(0, 0);
  EXPECT_THAT(values(batch.ids), ElementsAre(1, 10, 11, 2, 1, 20, 2, 1, 30, 31));
  EXPECT_THAT(values(batch.labels), ElementsAre(10, 11, 2, -100, -100, 2, -100, 30, 31, -100));
  EXPECT_THAT(batch.boundaries, ElementsAre(0, 4, 5, 7, 10));
  EXPECT_EQ(batch.supervised, 6);
  testing::expect_error(ErrorKind::kData, "no micro-batch 2",
                        [&] { BatchLoader(rows, options).batch(0, 2); });
}

TEST(BatchLoader, ALastBlockOfOneTokenIsLeftOut) {
  TokenRows rows;
  add_row(rows, {1, 10, 11, 12, 2}, {1, 1, 1, 1, 1});
  LoaderOptions options;
  options.block_size = 4;
  EXPECT_EQ(BatchLoader(rows, options).batches(0), 1);
  options.block_size = 3;
  EXPECT_EQ(BatchLoader(rows, options).batches(0), 2);
  options.block_size = 5;
  EXPECT_EQ(BatchLoader(rows, options).batches(0), 1);
  EXPECT_EQ(BatchLoader(TokenRows(), options).batches(0), 0);
}

TEST(BatchLoader, DialoguesByHand) {
  TokenRows rows;
  add_row(rows, {1, 10, 11, 2}, {0, 0, 1, 1});
  add_row(rows, {1, 20, 21, 22, 2}, {0, 0, 0, 1, 1});
  add_row(rows, {30, 31, 2}, {1, 0, 1});  // cut at its front: the first id is nobody's target
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 8;
  options.shuffle = false;
  const BatchLoader packed(rows, options);
  ASSERT_EQ(packed.batches(0), 2);  // in file order: 4 | 5 + 3
  PackedBatch batch = packed.batch(0, 1);
  EXPECT_THAT(values(batch.ids), ElementsAre(1, 20, 21, 22, 2, 30, 31, 2));
  EXPECT_THAT(values(batch.labels), ElementsAre(-100, -100, 22, 2, -100, -100, 2, -100));
  EXPECT_THAT(batch.boundaries, ElementsAre(0, 5, 8));
  EXPECT_THAT(batch.rows, ElementsAre(1, 2));
  EXPECT_EQ(batch.supervised, 3);

  options.packing = false;
  options.micro_batch_size = 2;
  const BatchLoader padded(rows, options);
  ASSERT_EQ(padded.batches(0), 2);
  batch = padded.batch(0, 0);
  EXPECT_THAT(values(batch.ids), ElementsAre(1, 10, 11, 2, 2, 2, 2, 2, 1, 20, 21, 22, 2, 2, 2, 2));
  EXPECT_THAT(values(batch.labels), ElementsAre(-100, 11, 2, -100, -100, -100, -100, -100, -100,
                                                -100, 22, 2, -100, -100, -100, -100));
  EXPECT_THAT(batch.boundaries, ElementsAre(0, 8, 16));
  options.block_size = 4;
  testing::expect_error(ErrorKind::kData, "5 tokens don't fit into a block of 4",
                        [&] { BatchLoader(rows, options); });
}

// What one pass over the loader sees, and that every batch holds together.
struct EpochView {
  std::vector<int64_t> order;   // rows or blocks as they come
  std::vector<int64_t> tokens;  // all ids, sorted
  int64_t supervised = 0, batches = 0;
};

EpochView read_epoch(const BatchLoader& loader, int64_t epoch, int64_t block_tokens) {
  EpochView view;
  view.batches = loader.batches(epoch);
  for (int64_t i = 0; i < view.batches; ++i) {
    const PackedBatch batch = loader.batch(epoch, i);
    const auto ids = values(batch.ids), labels = values(batch.labels);
    EXPECT_EQ(ids.size(), labels.size());
    EXPECT_LE(static_cast<int64_t>(ids.size()), block_tokens);
    EXPECT_EQ(batch.boundaries.front(), 0);
    EXPECT_EQ(batch.boundaries.back(), static_cast<int64_t>(ids.size()));
    int64_t counted = 0;
    for (size_t s = 0; s + 1 < batch.boundaries.size(); ++s) {
      const auto begin = static_cast<size_t>(batch.boundaries[s]);
      const auto end = static_cast<size_t>(batch.boundaries[s + 1]);
      EXPECT_LT(begin, end);
      EXPECT_EQ(labels[end - 1], -100);  // no label reaches across a boundary
      for (size_t t = begin; t < end; ++t) {
        if (labels[t] == -100) continue;
        EXPECT_EQ(labels[t], ids[t + 1]);
        ++counted;
      }
    }
    EXPECT_EQ(counted, batch.supervised);
    view.supervised += batch.supervised;
    view.order.insert(view.order.end(), batch.rows.begin(), batch.rows.end());
    view.tokens.insert(view.tokens.end(), ids.begin(), ids.end());
  }
  std::sort(view.tokens.begin(), view.tokens.end());
  return view;
}

std::vector<int64_t> sorted_tokens(const TokenRows& rows) {
  std::vector<int64_t> all(rows.all_ids().begin(), rows.all_ids().end());
  std::sort(all.begin(), all.end());
  return all;
}

int64_t targets(const TokenRows& rows) {
  int64_t count = 0;
  for (int64_t row = 0; row < rows.size(); ++row)
    count += std::accumulate(rows.supervised(row).begin() + 1, rows.supervised(row).end(), 0);
  return count;
}

TEST(BatchLoader, EveryRowOnceAnEpochInAnOrderOfSeedAndEpoch) {
  const TokenRows rows = random_rows(500, 60, 1);
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 64;
  options.micro_batch_size = 3;
  const BatchLoader loader(rows, options), same(rows, options);
  const EpochView first = read_epoch(loader, 0, 3 * 64), second = read_epoch(loader, 1, 3 * 64);
  for (const EpochView& view : {first, second}) {
    EXPECT_EQ(view.tokens, sorted_tokens(rows));
    EXPECT_EQ(view.supervised, targets(rows));
    EXPECT_EQ(std::set<int64_t>(view.order.begin(), view.order.end()).size(), 500u);
    EXPECT_EQ(view.order.size(), 500u);
  }
  EXPECT_NE(first.order, second.order);
  EXPECT_EQ(read_epoch(same, 1, 3 * 64).order, second.order);  // nothing of epoch 0 is needed
  EXPECT_EQ(read_epoch(loader, 0, 3 * 64).order, first.order);
  options.seed = 101;
  EXPECT_NE(read_epoch(BatchLoader(rows, options), 0, 3 * 64).order, first.order);
  // A pure function of (epoch, i): any order of asking.
  const PackedBatch late = loader.batch(1, 5);
  loader.batch(0, 2);
  EXPECT_EQ(values(loader.batch(1, 5).ids), values(late.ids));
}

TEST(BatchLoader, PackedAndPaddedSuperviseTheSame) {
  const TokenRows rows = random_rows(200, 40, 2);
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 48;
  options.pad_id = -7;
  const EpochView packed = read_epoch(BatchLoader(rows, options), 0, 48);
  options.packing = false;
  EpochView padded = read_epoch(BatchLoader(rows, options), 0, 48);
  EXPECT_EQ(padded.batches, 200);
  EXPECT_EQ(padded.supervised, packed.supervised);
  EXPECT_EQ(padded.tokens.size(), 200u * 48);
  std::erase(padded.tokens, -7);
  EXPECT_EQ(padded.tokens, packed.tokens);
  EXPECT_LT(packed.batches, 200 * 25 / 48);  // 21 tokens a row on average: nearly full blocks
}

TEST(BatchLoader, ShuffleOffKeepsTheFilesOrder) {
  const TokenRows rows = random_rows(100, 40, 3);
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 48;
  options.shuffle = false;
  std::vector<int64_t> in_order(100);
  std::iota(in_order.begin(), in_order.end(), 0);
  EXPECT_EQ(read_epoch(BatchLoader(rows, options), 3, 48).order, in_order);
  options.packing = false;
  EXPECT_EQ(read_epoch(BatchLoader(rows, options), 3, 48).order, in_order);
}

TEST(BatchLoader, PretrainingBlocksOnceAnEpoch) {
  const TokenRows rows = random_rows(300, 50, 4);
  LoaderOptions options;
  options.block_size = 32;
  options.micro_batch_size = 4;
  for (const bool cross : {true, false}) {
    options.cross_documents = cross;
    const EpochView view = read_epoch(BatchLoader(rows, options), 2, 4 * 32);
    EXPECT_EQ(view.tokens, sorted_tokens(rows));
    EXPECT_EQ(static_cast<int64_t>(view.order.size()), (rows.total_tokens() + 31) / 32);
    EXPECT_NE(view.order, read_epoch(BatchLoader(rows, options), 1, 4 * 32).order);
  }
}

TEST(PackBestFit, TheFullestBinWithRoom) {
  EXPECT_THAT(pack_best_fit({4, 8, 1, 4, 2, 1}, 10),
              ElementsAre(ElementsAre(1, 2, 5), ElementsAre(0, 3, 4)));
  EXPECT_THAT(pack_next_fit({4, 8, 1, 4, 2, 1}, 10),
              ElementsAre(ElementsAre(0), ElementsAre(1, 2), ElementsAre(3, 4, 5)));
  EXPECT_TRUE(pack_best_fit({}, 10).empty());
  // Against the plain search, bin by bin; and no better than the sum of sizes allows.
  Random random(5);
  std::vector<int64_t> sizes;
  for (int i = 0; i < 400; ++i) sizes.push_back(1 + static_cast<int64_t>(random.below(100)));
  std::vector<int64_t> order = sizes;
  std::sort(order.rbegin(), order.rend());
  std::vector<int64_t> room, fill;
  for (const int64_t size : order) {
    size_t best = room.size();
    for (size_t bin = 0; bin < room.size(); ++bin) {
      if (room[bin] >= size && (best == room.size() || room[bin] < room[best])) best = bin;
    }
    if (best == room.size()) room.push_back(100);
    room[best] -= size;
  }
  const auto bins = pack_best_fit(sizes, 100);
  for (const auto& bin : bins) {
    int64_t sum = 0;
    for (const int64_t item : bin) sum += sizes[static_cast<size_t>(item)];
    fill.push_back(100 - sum);
  }
  std::sort(room.begin(), room.end());
  std::sort(fill.begin(), fill.end());
  EXPECT_EQ(fill, room);
}

}  // namespace
}  // namespace llama2zh
