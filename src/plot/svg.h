#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama2zh {

using SvgPoints = std::vector<std::pair<double, double>>;

// What a line looks like; a value of "" or 0 leaves the attribute out.
struct Stroke {
  std::string colour;
  double width = 1;
  double opacity = 1;
  std::string dashes;  // "6 3"
};

struct TextStyle {
  double size = 12;
  std::string colour = "#374151";
  std::string anchor = "start";  // start, middle, end
  bool bold = false;
  double rotated = 0;  // degrees around its place
};

// An SVG 1.1 document in the making; (0, 0) is its upper left corner, units are pixels. Texts are
// escaped; control characters in them become spaces.
class Svg {
 public:
  Svg(double width, double height, std::string_view title);

  void rectangle(double x, double y, double width, double height, std::string_view fill,
                 std::string_view stroke = "none");
  void line(double x1, double y1, double x2, double y2, const Stroke& stroke);
  void polyline(const SvgPoints& points, const Stroke& stroke);
  // A marker of one of four shapes: circle, square, diamond, triangle.
  void marker(double x, double y, int shape, double radius, std::string_view colour);
  void text(double x, double y, std::string_view text, const TextStyle& style);
  // What is drawn until end_clip() shows inside the rectangle only.
  void begin_clip(double x, double y, double width, double height);
  void end_clip();

  std::string finish() const { return out_ + "</svg>\n"; }

 private:
  std::string out_;
  int clips_ = 0;
};

// About how wide a text is in the fonts that the document names.
double text_width(std::string_view text, double size);

}  // namespace llama2zh
