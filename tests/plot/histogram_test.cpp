#include "llama2zh/plot/histogram.h"

#include <gtest/gtest.h>

#include <regex>

namespace llama2zh {
namespace {

// Heights of the rectangles of this colour, from left to right.
std::vector<double> heights(const std::string& svg, const std::string& colour) {
  std::vector<double> found;
  const std::regex pattern("<rect[^>]*height=\"([0-9.]+)\"[^>]*" + colour);
  for (std::sregex_iterator at(svg.begin(), svg.end(), pattern), end; at != end; ++at)
    found.push_back(std::stod((*at)[1]));
  return found;
}

TEST(Histogram, BarsAreAsHighAsTheirCounts) {
  HistogramOptions options;
  options.title = "Lengths <of> rows";
  options.x = "tokens";
  options.marks = {{2, "median 2"}, {50, "beyond"}};
  const std::string svg = draw_histogram({{1, 4}, {2, 2}, {4, 1}}, options);
  const std::vector<double> bars = heights(svg, "#0072b2");
  ASSERT_EQ(bars.size(), 4u) << svg;  // 3 has none
  EXPECT_NEAR(bars[1] / bars[0], 0.5, 0.01);
  EXPECT_EQ(bars[2], 0);
  EXPECT_NEAR(bars[3] / bars[0], 0.25, 0.01);
  for (const char* text : {"&lt;of&gt;", ">tokens<", ">median 2<"})
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  EXPECT_EQ(svg.find("beyond"), std::string::npos);
}

// Few long rows among many short ones: bars of whole numbers, fifty at most, that lose no row.
TEST(Histogram, LongTailsAreLogarithmic) {
  std::map<int64_t, int64_t> counts = {{1000, 1}};
  for (int64_t i = 1; i < 20; ++i) counts[i] = 10;
  const std::vector<double> bars = heights(draw_histogram(counts, {}), "#0072b2");
  EXPECT_LE(bars.size(), 50u);
  ASSERT_GT(bars.size(), 20u);
  EXPECT_GT(bars[0], 0);
  EXPECT_GT(bars.back(), 0);
  EXPECT_EQ(bars[bars.size() - 2], 0);
}

TEST(Histogram, NoRowsAreSaid) {
  EXPECT_NE(draw_histogram({}, {.title = "t"}).find("no rows"), std::string::npos);
}

}  // namespace
}  // namespace llama2zh
