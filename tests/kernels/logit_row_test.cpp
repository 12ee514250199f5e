#include "llama2zh/kernels/logit_row.h"

#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace llama2zh {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

class LogitRow : public ::testing::TestWithParam<int64_t> {
 protected:
  // Every seventh is missing, but not the first.
  std::vector<float> logits = [] {
    const at::Tensor x = at::randn({GetParam()}).mul(5);
    std::vector<float> values(x.const_data_ptr<float>(), x.const_data_ptr<float>() + GetParam());
    for (size_t i = 6; i < values.size(); i += 7) values[i] = kNone;
    for (size_t i = 3; i < values.size(); i += 70) values[i] = -200;
    return values;
  }();
  float highest = *std::max_element(logits.begin(), logits.end());
};

TEST_P(LogitRow, HighestIsTheFirstOfEqualOnes) {
  const auto expected = std::max_element(logits.begin(), logits.end()) - logits.begin();
  EXPECT_EQ(highest_logit(logits).index, expected);
  EXPECT_EQ(highest_logit(logits).value, highest);
  for (size_t i = static_cast<size_t>(expected); i < logits.size(); i += 5) logits[i] = highest;
  EXPECT_EQ(highest_logit(logits).index, expected);
  EXPECT_FALSE(highest_logit(logits).any_nan);
  std::fill(logits.begin(), logits.end(), kNone);
  EXPECT_EQ(highest_logit(logits).value, kNone);
  EXPECT_FALSE(highest_logit(logits).any_nan);
}

TEST_P(LogitRow, NanIsSeenAnywhere) {
  for (const size_t place : {size_t{0}, logits.size() / 2, logits.size() - 1}) {
    const float kept = std::exchange(logits[place], std::nanf(""));
    EXPECT_TRUE(highest_logit(logits).any_nan) << place;
    logits[place] = kept;
  }
}

TEST_P(LogitRow, ExponentialsAndTheirSums) {
  std::vector<double> expected;
  for (const float logit : logits)
    expected.push_back(logit == kNone ? 0 : std::exp(std::max(-87.0, double{logit - highest})));
  std::vector<float> got(logits.size());
  exp_row(logits, highest, got.data());
  double total = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], expected[i], 3e-7 * expected[i] + 1e-37) << logits[i];
    if (logits[i] == kNone) {
      EXPECT_EQ(got[i], 0);
    }
    total += expected[i];
  }
  EXPECT_NEAR(exp_sum(logits, highest), total, 1e-6 * total);
  std::vector<double> sums = {-1};
  EXPECT_NEAR(exp_block_sums(logits, highest, sums), total, 1e-6 * total);
  ASSERT_EQ(sums.size(), (logits.size() + kExpBlock - 1) / kExpBlock);
  for (size_t block = 0; block < sums.size(); ++block) {
    const auto from = expected.begin() + static_cast<std::ptrdiff_t>(block * kExpBlock);
    const auto to = from + std::min<std::ptrdiff_t>(kExpBlock, expected.end() - from);
    const double sum = std::accumulate(from, to, 0.0);
    EXPECT_NEAR(sums[block], sum, 1e-6 * sum + 1e-37) << block;
  }
}

TEST_P(LogitRow, ABoundDropsOrFindsThoseBelow) {
  const float bound = logits[0];
  std::vector<int32_t> expected, ids = {-1};
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] >= bound) expected.push_back(static_cast<int32_t>(i));
  ids_from(logits, bound, ids);
  EXPECT_EQ(ids, expected);
  std::vector<float> kept = logits;
  drop_below(kept, bound);
  for (size_t i = 0; i < logits.size(); ++i)
    EXPECT_EQ(kept[i], logits[i] >= bound ? logits[i] : kNone) << i;
}

TEST_P(LogitRow, IsDividedExactly) {
  std::vector<float> divided = logits;
  divide_row(divided, 0.7f);
  for (size_t i = 0; i < logits.size(); ++i) EXPECT_EQ(divided[i], logits[i] / 0.7f) << i;
}

INSTANTIATE_TEST_SUITE_P(Sizes, LogitRow,
                         ::testing::Values(1, 15, 16, 17, 255, 256, 257, 1000, 49953));

}  // namespace
}  // namespace llama2zh
