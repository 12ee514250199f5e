// How parameters are cut into shards, and sums over real processes; nothing of torch runs in the
// test's own process.
#include "llama2zh/distributed/shard_reducer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "distributed/ranks.h"
#include "llama2zh/distributed/gradient_sync.h"
#include "llama2zh/distributed/shard_layout.h"

namespace llama2zh {
namespace {

constexpr auto kReducerTimeout = std::chrono::seconds(20);

TEST(ShardLayout, EveryElementHasOneOwnerAtAlignedPlaces) {
  const std::vector<int64_t> elements = {1000, 3, 256, 5000, 1};
  for (const int64_t ranks : {1, 2, 3, 7, 40}) {
    const ShardLayout layout(elements, ranks);
    std::vector<int64_t> seen(elements.size(), 0);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      for (const ShardPiece& piece : layout.shard(rank)) {
        EXPECT_EQ(piece.begin, seen[piece.parameter]);
        EXPECT_EQ(piece.begin % ShardLayout::kAlign, 0);
        EXPECT_EQ(piece.offset, layout.offset(piece.parameter) + piece.begin);
        EXPECT_LE(piece.offset + piece.count, (rank + 1) * layout.shard_elements());
        seen[piece.parameter] += piece.count;
      }
    }
    EXPECT_EQ(seen, elements) << ranks << " ranks";
    EXPECT_LE(layout.flat_elements(), 7168 + ranks * ShardLayout::kAlign);
  }
}

// Each rank r has (r + 1) times an own gradient, in rounds of which rank 1 has nothing for the second.
// Small buckets: more of them than are under way at a time, parameters in several.
TEST(ShardReducer, EachRankGetsTheSumsOfItsShard) {
  ForkedRanks ranks(3, [](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kReducerTimeout);
    const std::vector<int64_t> elements = {3000, 70, 4000};
    const ShardLayout layout(elements, group.size());
    std::vector<at::Tensor> weights;
    for (const int64_t count : elements) {
      at::Tensor weight = at::ones({count / 10, 10});
      weights.push_back(weight.requires_grad_(true));
    }
    at::Tensor gradient = at::zeros({layout.shard_elements()});
    ShardReducer reducer(group, layout, weights, gradient, /*bucket_elements=*/300);
    const auto loss = [&] {
      at::Tensor sum = at::zeros({});
      for (const at::Tensor& weight : weights) {
        sum = sum + (weight.view(-1) * at::arange(weight.numel())).sum();
      }
      return sum * static_cast<double>(1 + group.rank());
    };
    for (int step = 1; step <= 2; ++step) {
      for (int round = 0; round < 2; ++round) {
        reducer.start();
        round == 1 && group.rank() == 1 ? touch(weights) : loss().backward();
        for (const at::Tensor& weight : weights) {
          if (weight.grad().defined()) return 1;  // it should be gone
        }
      }
      reducer.finish();
      for (const ShardPiece& piece : layout.shard(group.rank())) {
        const int64_t place = piece.offset - group.rank() * layout.shard_elements();
        const at::Tensor expected =
            at::arange(piece.begin, piece.begin + piece.count) * ((1 + 2 + 3) + (1 + 3)) * step;
        if (!at::equal(gradient.narrow(0, place, piece.count), expected.to(at::kFloat))) return 2;
      }
    }
    return 0;
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0, 0}));
}

TEST(ProcessGroup, SharesThePartsOfAll) {
  ForkedRanks ranks(3, [](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kReducerTimeout);
    at::Tensor whole = at::zeros({6});
    whole.narrow(0, 2 * group.rank(), 2).fill_(static_cast<double>(group.rank() + 1));
    group.share_parts(whole, "parts");
    return at::equal(whole, at::arange(6).div(2, "floor").add(1).to(at::kFloat)) ? 0 : 1;
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0, 0}));
}

}  // namespace
}  // namespace llama2zh
