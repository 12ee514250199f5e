// The chat page's files, embedded in the program (assets/page and the browser libraries that its libraries.txt names). No torch.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <utility>

namespace llama2zh {

// One file. All views live as long as the program.
struct PageFile {
  std::string_view path;  // of the request: "/" is index.html, the others are below "/assets/"
  std::string_view content_type;  // with its charset where the type has one
  std::string_view bytes;
  std::string_view gzip;  // the same, gzip-compressed; empty where that saves nothing (fonts)
  std::string_view
      etag;  // with its quotes; of `bytes`. A compressed answer is the same entity: send it with "Vary: Accept-Encoding"
};

// The file at a request's path (without query), or nullptr. Thread-safe.
const PageFile* find_page_file(std::string_view path);

// Everything find_page_file finds.
std::span<const PageFile> page_files();

// The policy under which a browser runs the page: nothing from elsewhere, no inline script or style, no text turned into HTML but through
// the sanitizer's ("dompurify") and the page's own ("llama2zh") Trusted Types. tests/page reads this text for its fake server.
inline constexpr std::string_view kPageContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for "
    "'script'; "
    "trusted-types dompurify llama2zh";

// What every answer with a PageFile carries beside that policy, Content-Type and ETag.
inline constexpr auto kPageHeaders = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cache-Control", "no-cache"},
    {"Vary", "Accept-Encoding"},
});

}  // namespace llama2zh
