#pragma once

#include <string>
#include <string_view>

namespace llama2zh {

// An SVG document as PNG bytes, `scale` pixels for each of its units. By librsvg and cairo, which
// are looked up when this is called (Debian: librsvg2-2), so that a program without them starts and
// writes SVG all the same; Chinese text needs a font that has it. kIo if they are missing, kFormat
// if the document can't be rendered.
std::string svg_to_png(std::string_view svg, double width, double height, double scale);

}  // namespace llama2zh
