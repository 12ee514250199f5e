#include "llama2zh/base/random.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>

#include "base/expect_error.h"

namespace llama2zh {
namespace {

using testing::ElementsAre;

// Expected values come from the same definitions written in Python with its unbounded integers; the
// 10000th value of the default seed is the one that the C++ standard states ([rand.predef]).
TEST(Random, KnownValues) {
  Random standard(5489);
  for (int i = 1; i < 10000; ++i) standard.next();
  EXPECT_EQ(standard.next(), 9981545732273789042u);

  Random random(42);
  std::vector<uint64_t> dice;
  for (int i = 0; i < 12; ++i) dice.push_back(random.below(6));
  EXPECT_THAT(dice, ElementsAre(0, 2, 4, 0, 5, 2, 4, 0, 4, 1, 1, 0));

  Random again(42);
  EXPECT_EQ(again.uniform(), 0.755155532954539);
  EXPECT_EQ(again.uniform(), 0.6390313938546974);
  EXPECT_EQ(again.uniform(), 0.7521452007480266);
}

TEST(Random, Permutations) {
  EXPECT_THAT(permutation(10, 1, 0), ElementsAre(5, 0, 8, 7, 3, 1, 9, 6, 4, 2));
  EXPECT_THAT(permutation(10, 1, 1), ElementsAre(6, 2, 8, 7, 4, 5, 9, 3, 0, 1));
  EXPECT_THAT(permutation(10, 2, 0), ElementsAre(4, 9, 8, 5, 0, 7, 6, 2, 3, 1));
  EXPECT_THAT(permutation(0, 1, 0), ElementsAre());
  std::vector<int64_t> sorted = permutation(1000, 7, 3);
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < 1000; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i);
  error_text_of(ErrorKind::kData, [] { permutation(-1, 0, 0); });
}

TEST(Random, BelowIsUniformAndInRange) {
  Random random(1);
  std::array<int, 3> counts{};
  for (int i = 0; i < 30000; ++i) ++counts[random.below(3)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);  // 5 standard deviations
  EXPECT_EQ(random.below(1), 0u);
  // Three quarters of 2^64: plain modulo would give the lower third twice as often.
  const uint64_t bound = 3u * (uint64_t{1} << 62);
  int low = 0;
  for (int i = 0; i < 30000; ++i) {
    const uint64_t value = random.below(bound);
    EXPECT_LT(value, bound);
    low += value < bound / 3;
  }
  EXPECT_NEAR(low, 10000, 400);
  error_text_of(ErrorKind::kData, [&] { random.below(0); });
}

}  // namespace
}  // namespace llama2zh
