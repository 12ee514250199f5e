#include "llama2zh/plot/bars.h"

#include <gtest/gtest.h>

#include <limits>

namespace llama2zh {
namespace {

size_t occurrences(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Bars, EveryValueHasABarAndItsNumber) {
  const std::string svg =
      draw_bars("Bits <per> character", {"A", "B"}, {{"zh.txt", {4, 2}}, {"en.txt", {1.25, 0}}});
  EXPECT_EQ(occurrences(svg, "<rect"), 1 + 2 + 4u);  // background, legend, bars
  for (const char* text : {">4<", ">2<", ">1.25<", ">0<", ">zh.txt<", "&lt;per&gt;"})
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  EXPECT_NE(svg.find("height=\"170\""), std::string::npos);  // the largest
  EXPECT_NE(svg.find("height=\"85\""), std::string::npos);   // half of it
}

TEST(Bars, WhatIsNotMeasuredHasNone) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(occurrences(draw_bars("t", {"A", "B"}, {{"x", {1, nan}}}), "<rect"), 1 + 2 + 1u);
  EXPECT_EQ(occurrences(draw_bars("t", {"A"}, {{"x", {0}}}), "nan"), 0u);
}

}  // namespace
}  // namespace llama2zh
