// The drawing as XML and as pixels. Whether it looks good was judged by looking.
#include "llama2zh/plot/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "llama2zh/plot/png.h"
#include "plot/svg.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;
using testing::Not;

RunCurves sample_run(const std::string& name, int points) {
  Curve train{"train", false, {}, {}}, zh{"zh", true, {}, {}};
  for (int i = 0; i < points; ++i) {
    train.x.push_back(i);
    train.y.push_back(2 + 8 * std::exp(-i / 30.0));
    if (i % 20 != 0) continue;
    zh.x.push_back(i);
    zh.y.push_back(3 + std::abs(i - 60) / 100.0);
  }
  return {name, {train, zh}};
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Chart, OneRunHasRawAndSmoothedCurvesAndMarkers) {
  const std::string svg = draw_chart({{"loss", {sample_run("预训练<7B>", 100)}}}, {});
  EXPECT_EQ(count(svg, "<polyline"), 3u);    // raw, smoothed, evaluations
  EXPECT_EQ(count(svg, "<circle"), 5u + 1);  // evaluations, and one in the legend
  EXPECT_THAT(svg, HasSubstr(">loss</text>"));
  EXPECT_THAT(svg, HasSubstr(">step</text>"));
  EXPECT_THAT(svg, HasSubstr(">zh 3.2 (lowest 3)</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(Chart, SeveralRunsAndPanels) {
  ChartOptions options;
  options.title = "a & \"b\"\x01";
  options.log_y = true;
  const std::vector<RunCurves> runs = {sample_run("预训练<7B>", 100), sample_run("b", 15)};
  const std::string svg = draw_chart({{"loss", runs}, {"grad_norm", {}}}, options);
  EXPECT_THAT(svg, HasSubstr("预训练&lt;7B&gt; · train 2."));
  EXPECT_THAT(svg, HasSubstr("a &amp; &quot;b&quot; </text>"));
  EXPECT_THAT(svg, HasSubstr("no values of grad_norm in the log"));
  EXPECT_EQ(count(svg, "<polyline"), 5u);  // the short run is not smoothed
  EXPECT_EQ(count(svg, "<clipPath"), 2u);
}

TEST(Chart, ValuesOutsideTheGivenRangeDoNotStretchIt) {
  ChartOptions options;
  options.y_max = 4;
  const std::string svg = draw_chart({{"loss", {sample_run("a", 100)}}}, options);
  EXPECT_THAT(svg, HasSubstr(">4.0</text>"));
  EXPECT_THAT(svg, Not(HasSubstr(">10</text>")));
}

uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

TEST(Png, HasTheSizeThatWasAskedForAndShowsChineseText) {
  const auto draw = [](const std::string& text) {
    Svg svg(200, 100, "");
    svg.text(20, 50, text, {.size = 20});
    return svg_to_png(svg.finish(), 200, 100, 1.5);
  };
  const std::string png = draw("预训练");
  ASSERT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(big_endian(png, 16), 300u);
  EXPECT_EQ(big_endian(png, 20), 150u);
  // Without a Chinese font every character would be the same box.
  EXPECT_NE(draw("预"), draw("训"));
  EXPECT_NE(draw(""), png);
}

}  // namespace
}  // namespace llama2zh
