// https://www.w3.org/TR/SVG11: only elements that every renderer has.
#include "plot/svg.h"

#include <cstdio>

#include "llama2zh/base/markup.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

// Chinese families after a Latin one: a renderer takes the first that has the character.
constexpr std::string_view kFonts =
    "'DejaVu Sans','Noto Sans CJK SC','Noto Sans SC','WenQuanYi Micro Hei','Droid Sans Fallback',"
    "'Microsoft YaHei','PingFang SC',sans-serif";

// XML has no control characters.
std::string xml_escape(std::string_view raw) {
  std::string text = utf8_sanitize(raw);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return escape_markup(text);
}

// A tenth of a pixel is enough, and keeps files small.
std::string pixels(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  std::string out = text;
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out == "-0" ? "0" : out;
}

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string attributes(const Stroke& stroke) {
  std::string out = cat(" fill=\"none\" stroke=\"", stroke.colour, "\" stroke-width=\"",
                        short_number(stroke.width), "\"");
  if (stroke.opacity < 1) out += cat(" stroke-opacity=\"", short_number(stroke.opacity), "\"");
  if (!stroke.dashes.empty()) out += cat(" stroke-dasharray=\"", stroke.dashes, "\"");
  return out;
}

}  // namespace

Svg::Svg(double width, double height, std::string_view title) {
  out_ = cat("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", pixels(width), "\" height=\"",
             pixels(height), "\" viewBox=\"0 0 ", pixels(width), " ", pixels(height),
             "\" font-family=\"", kFonts, "\">\n<title>", xml_escape(title), "</title>\n");
  rectangle(0, 0, width, height, "#ffffff");
}

void Svg::rectangle(double x, double y, double width, double height, std::string_view fill,
                    std::string_view stroke) {
  out_ += cat("<rect x=\"", pixels(x), "\" y=\"", pixels(y), "\" width=\"", pixels(width),
              "\" height=\"", pixels(height), "\" fill=\"", fill, "\" stroke=\"", stroke, "\"/>\n");
}

void Svg::line(double x1, double y1, double x2, double y2, const Stroke& stroke) {
  out_ += cat("<line x1=\"", pixels(x1), "\" y1=\"", pixels(y1), "\" x2=\"", pixels(x2), "\" y2=\"",
              pixels(y2), "\"", attributes(stroke), "/>\n");
}

void Svg::polyline(const SvgPoints& points, const Stroke& stroke) {
  if (points.empty()) return;
  out_ += cat("<polyline", attributes(stroke), " stroke-linejoin=\"round\" points=\"");
  for (const auto& [x, y] : points) out_ += cat(pixels(x), ",", pixels(y), " ");
  out_.back() = '"';
  out_ += "/>\n";
}

void Svg::marker(double x, double y, int shape, double radius, std::string_view colour) {
  const std::string paint =
      cat(" fill=\"", colour, "\" stroke=\"#ffffff\" stroke-width=\"0.8\"/>\n");
  if (shape % 4 == 0) {
    out_ += cat("<circle cx=\"", pixels(x), "\" cy=\"", pixels(y), "\" r=\"", pixels(radius), "\"",
                paint);
    return;
  }
  const double r = shape % 4 == 1 ? radius * 0.9 : radius * 1.3;
  const SvgPoints corners =
      shape % 4 == 1   ? SvgPoints{{x - r, y - r}, {x + r, y - r}, {x + r, y + r}, {x - r, y + r}}
      : shape % 4 == 2 ? SvgPoints{{x, y - r}, {x + r, y}, {x, y + r}, {x - r, y}}
                       : SvgPoints{{x, y - r}, {x + r, y + 0.8 * r}, {x - r, y + 0.8 * r}};
  out_ += "<polygon points=\"";
  for (const auto& [px, py] : corners) out_ += cat(pixels(px), ",", pixels(py), " ");
  out_.back() = '"';
  out_ += paint;
}

void Svg::text(double x, double y, std::string_view text, const TextStyle& style) {
  out_ += cat("<text x=\"", pixels(x), "\" y=\"", pixels(y), "\" font-size=\"",
              short_number(style.size), "\" fill=\"", style.colour, "\"");
  if (style.anchor != "start") out_ += cat(" text-anchor=\"", style.anchor, "\"");
  if (style.bold) out_ += " font-weight=\"bold\"";
  if (style.rotated != 0) {
    out_ += cat(" transform=\"rotate(", short_number(style.rotated), " ", pixels(x), " ", pixels(y),
                ")\"");
  }
  out_ += cat(">", xml_escape(text), "</text>\n");
}

void Svg::begin_clip(double x, double y, double width, double height) {
  const std::string id = cat("clip", ++clips_);
  out_ += cat("<clipPath id=\"", id, "\"><rect x=\"", pixels(x), "\" y=\"", pixels(y),
              "\" width=\"", pixels(width), "\" height=\"", pixels(height),
              "\"/></clipPath>\n<g clip-path=\"url(#", id, ")\">\n");
}

void Svg::end_clip() { out_ += "</g>\n"; }

double text_width(std::string_view text, double size) {
  double width = 0;
  for (const char32_t codepoint : utf8_to_codepoints(text)) {
    std::string character;
    append_utf8(character, codepoint);
    width += display_width(character) > 1 ? 1.0 : 0.6;
  }
  return width * size;
}

}  // namespace llama2zh
