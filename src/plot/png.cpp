// librsvg brings glib, pango and some twenty other libraries: loading them costs every start of the
// program several milliseconds if it is linked, hence dlopen. Declarations after librsvg's rsvg.h
// (2.46 and later) and cairo.h.
#include "llama2zh/plot/png.h"

#include <dlfcn.h>

#include <cmath>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

struct RsvgRectangle {
  double x, y, width, height;
};
constexpr int kCairoArgb32 = 0, kCairoSuccess = 0;
using CairoWrite = int (*)(void* closure, const unsigned char* data, unsigned int length);

// The functions used, each under its C name.
struct SvgLibraries {
  void* (*rsvg_handle_new_from_data)(const uint8_t* data, size_t size, void** error);
  int (*rsvg_handle_render_document)(void* handle, void* cairo, const RsvgRectangle*, void** error);
  void (*g_object_unref)(void* object);
  void* (*cairo_image_surface_create)(int format, int width, int height);
  int (*cairo_surface_status)(void* surface);
  void (*cairo_surface_destroy)(void* surface);
  int (*cairo_surface_write_to_png_stream)(void* surface, CairoWrite write, void* closure);
  void* (*cairo_create)(void* surface);
  void (*cairo_destroy)(void* cairo);
};

template <typename Function>
void find_symbol(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (function == nullptr) fail_io("png", cat("librsvg has no ", name, "; expected 2.46 or later"));
}

SvgLibraries load_svg_libraries() {
  // Symbols of the libraries that librsvg itself needs are found through its handle.
  void* const library = ::dlopen("librsvg-2.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fail_usage("png", "librsvg-2.so.2 is not installed, which turns the drawing into a PNG",
               "apt-get install librsvg2-2 fonts-droid-fallback, or name an .svg file");
  }
  SvgLibraries lib{};
  find_symbol(library, "rsvg_handle_new_from_data", lib.rsvg_handle_new_from_data);
  find_symbol(library, "rsvg_handle_render_document", lib.rsvg_handle_render_document);
  find_symbol(library, "g_object_unref", lib.g_object_unref);
  find_symbol(library, "cairo_image_surface_create", lib.cairo_image_surface_create);
  find_symbol(library, "cairo_surface_status", lib.cairo_surface_status);
  find_symbol(library, "cairo_surface_destroy", lib.cairo_surface_destroy);
  find_symbol(library, "cairo_surface_write_to_png_stream", lib.cairo_surface_write_to_png_stream);
  find_symbol(library, "cairo_create", lib.cairo_create);
  find_symbol(library, "cairo_destroy", lib.cairo_destroy);
  return lib;
}

int append_bytes(void* closure, const unsigned char* data, unsigned int length) {
  static_cast<std::string*>(closure)->append(reinterpret_cast<const char*>(data), length);
  return kCairoSuccess;
}

using Handle = std::unique_ptr<void, void (*)(void*)>;

}  // namespace

std::string svg_to_png(std::string_view svg, double width, double height, double scale) {
  static const SvgLibraries lib = load_svg_libraries();
  const Handle document(lib.rsvg_handle_new_from_data(reinterpret_cast<const uint8_t*>(svg.data()),
                                                      svg.size(), nullptr),
                        lib.g_object_unref);
  if (!document) fail_format("png", "librsvg can't read the drawing");
  const RsvgRectangle page{0, 0, std::ceil(width * scale), std::ceil(height * scale)};
  const Handle surface(lib.cairo_image_surface_create(kCairoArgb32, static_cast<int>(page.width),
                                                      static_cast<int>(page.height)),
                       lib.cairo_surface_destroy);
  if (lib.cairo_surface_status(surface.get()) != kCairoSuccess) {
    fail_format("png",
                cat("a picture of ", page.width, " x ", page.height, " pixels is too large"));
  }
  std::string png;
  {
    const Handle cairo(lib.cairo_create(surface.get()), lib.cairo_destroy);
    if (lib.rsvg_handle_render_document(document.get(), cairo.get(), &page, nullptr) == 0) {
      fail_format("png", "librsvg can't render the drawing");
    }
  }
  if (lib.cairo_surface_write_to_png_stream(surface.get(), append_bytes, &png) != kCairoSuccess) {
    fail_io("png", "cairo can't write the picture");
  }
  return png;
}

}  // namespace llama2zh
