// Sums over real processes; nothing of torch runs in the test's own process.
#include "llama2zh/distributed/gradient_sync.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "distributed/ranks.h"
#include "llama2zh/distributed/row_sync.h"

namespace llama2zh {
namespace {

constexpr auto kSyncTimeout = std::chrono::seconds(20);

at::Tensor trained(at::IntArrayRef shape) {
  at::Tensor weight = at::ones(shape);
  return weight.requires_grad_(true);
}

// Three steps of two micro-batches; in the second step rank 1 has nothing for the last.
TEST(GradientSync, SumsOnceAStepAndTakesInIdleRanks) {
  ForkedRanks ranks(2, [](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kSyncTimeout);
    const std::vector<at::Tensor> weights = {trained({3, 2}), trained({5})};
    GradientSync sync(group, weights);
    const auto scale = static_cast<double>(1 + group.rank());
    const auto loss = [&] { return scale * (weights[0].sum() + 10 * weights[1].sum()); };
    for (int step = 0; step < 3; ++step) {
      const bool idle = step == 1 && group.rank() == 1;
      loss().backward();
      if (weights[0].grad()[0][0].item<double>() != scale) return 1;  // not summed yet
      sync.start();
      idle ? touch(weights) : loss().backward();
      const double expected = step == 1 ? 2 * 1 + 2 : 2 * 1 + 2 * 2;
      if (!at::equal(weights[0].grad(), at::full({3, 2}, expected))) return 2;
      if (!at::equal(weights[1].grad(), at::full({5}, 10 * expected))) return 3;
      for (const at::Tensor& weight : weights) weight.mutable_grad().reset();
    }
    return 0;
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
}

// Rank r of 3 touches rows 0 to r, so 3 rows at most: gathering moves 9 rows, summing the matrix twice
// its rows. Between them the rows go in parts.
TEST(RowSync, RowsWhenThatIsLessTrafficElseTheMatrix) {
  ForkedRanks ranks(3, [](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kSyncTimeout);
    for (const int64_t vocabulary : {100, 9, 5, 4}) {
      at::Tensor gradient = at::zeros({vocabulary, 3});
      gradient.narrow(0, 0, group.rank() + 1).fill_(static_cast<double>(group.rank() + 1));
      const bool rows = sum_touched_rows(group, gradient, at::arange(group.rank() + 1), "rows");
      if (rows != (vocabulary > 4)) return 1;
      at::Tensor expected = at::zeros({vocabulary, 3});
      expected[0].fill_(6);
      expected[1].fill_(5);
      expected[2].fill_(3);
      if (!at::equal(gradient, expected)) return 2;
    }
    at::Tensor none = at::zeros({4, 3});
    if (!sum_touched_rows(group, none, at::arange(0), "no rows") || none.any().item<bool>())
      return 3;
    return 0;
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0, 0}));
}

}  // namespace
}  // namespace llama2zh
