#include "plot/axis.h"

#include <gtest/gtest.h>

namespace llama2zh {
namespace {

using Labels = std::vector<std::string>;

TEST(Axis, LinearTicksAreRound) {
  const Axis steps = make_axis({0, 2000}, false, /*tight=*/true, 8);
  EXPECT_EQ(steps.labels, (Labels{"0", "500", "1,000", "1,500", "2,000"}));
  EXPECT_DOUBLE_EQ(steps.place(500), 0.25);
  const Axis loss = make_axis({1.93, 2.41}, false, /*tight=*/true, 5);
  EXPECT_EQ(loss.labels, (Labels{"2.0", "2.1", "2.2", "2.3", "2.4"}));
  const Axis rate = make_axis({0, 1e-4}, false, /*tight=*/true, 2);
  EXPECT_EQ(rate.labels, (Labels{"0", "5e-05", "0.0001"}));
  const Axis below = make_axis({-3, 3}, false, /*tight=*/true, 3);
  EXPECT_EQ(below.labels, (Labels{"-2", "0", "2"}));
}

TEST(Axis, EndsALittleOutsideTheDataButNotBelowZero) {
  const Axis axis = make_axis({1, 11}, false, false, 5);
  EXPECT_NEAR(axis.low, 0.6, 1e-12);
  EXPECT_NEAR(axis.high, 11.4, 1e-12);
  EXPECT_EQ(make_axis({0.1, 11}, false, false, 5).low, 0);
}

TEST(Axis, OneValueOrNoneStillMakesAnAxis) {
  const Axis one = make_axis({2.5}, false, false, 5);
  EXPECT_LT(one.low, 2.5);
  EXPECT_GT(one.high, 2.5);
  EXPECT_GE(one.ticks.size(), 2u);
  EXPECT_GE(make_axis({}, false, false, 5).ticks.size(), 3u);
  EXPECT_GE(make_axis({-1, 0}, true, false, 5).ticks.size(), 2u);
  EXPECT_GE(make_axis({0}, false, true, 5).ticks.size(), 3u);
}

TEST(Axis, LogarithmicTicksFollowTheSpan) {
  const Axis narrow = make_axis({2, 10}, true, /*tight=*/true, 8);
  EXPECT_EQ(narrow.labels, (Labels{"2", "3", "4", "5", "6", "8", "10"}));
  const Axis middle = make_axis({1, 100}, true, /*tight=*/true, 8);
  EXPECT_EQ(middle.labels, (Labels{"1", "2", "5", "10", "20", "50", "100"}));
  const Axis wide = make_axis({1e-6, 1}, true, /*tight=*/true, 8);
  EXPECT_EQ(wide.labels, (Labels{"1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1"}));
  EXPECT_NEAR(wide.place(1e-3), 0.5, 1e-9);
}

TEST(Axis, LabelsOfLargeNumbers) {
  EXPECT_EQ(tick_label(1.5e6, 5e5), "1.5M");
  EXPECT_EQ(tick_label(2e9, 1e9), "2G");
  EXPECT_EQ(tick_label(-0.0, 1), "0");
}

}  // namespace
}  // namespace llama2zh
