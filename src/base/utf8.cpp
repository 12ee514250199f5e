// Strict UTF-8 by the table of well-formed byte sequences (Unicode 15, table 3-7). An invalid part
// is a "maximal subpart" (Unicode 15, 3.9, U+FFFD substitution): the longest prefix of a
// well-formed sequence, or one byte. Python's errors="replace" does the same.
#include "llama2zh/base/utf8.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

struct Decoded {
  char32_t codepoint = kReplacement;
  size_t length = 1;       // bytes of the character, or of the invalid part
  bool valid = false;      // the bytes are one well-formed character
  bool truncated = false;  // the text ends inside what could become one
};

struct Lead {
  int length = 0;  // 0: can't start a character
  unsigned char second_low = 0x80, second_high = 0xBF;
};

Lead classify_lead(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};  // continuation bytes and overlong forms
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};  // lower: overlong
  if (byte == 0xED) return {3, 0x80, 0x9F};  // higher: surrogates
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};  // lower: overlong
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};  // higher: above U+10FFFF
  return {0};
}

Decoded decode_at(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[offset + i]); };
  const Lead lead = classify_lead(byte(0));
  if (lead.length == 1) return {byte(0), 1, true, false};
  if (lead.length == 0) return {};
  char32_t codepoint = byte(0) & (0xFF >> (lead.length + 1));
  for (size_t i = 1; i < static_cast<size_t>(lead.length); ++i) {
    if (offset + i == text.size()) return {kReplacement, i, false, true};
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte(i) < low || byte(i) > high) return {kReplacement, i, false, false};
    codepoint = (codepoint << 6) | (byte(i) & 0x3F);
  }
  return {codepoint, static_cast<size_t>(lead.length), true, false};
}

// The end of the plain characters that `text` has at `offset`: ASCII eight at a time, and three bytes
// of the rows E1-EC and EE-EF (nearly all Han), which need no look at their second byte's range.
size_t skip_plain(std::string_view text, size_t offset) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  while (offset + 8 <= text.size()) {
    uint64_t bytes;
    std::memcpy(&bytes, text.data() + offset, sizeof bytes);
    const auto lead = static_cast<unsigned char>(text[offset]);
    const auto second = static_cast<unsigned char>(text[offset + 1]);
    const auto third = static_cast<unsigned char>(text[offset + 2]);
    if ((bytes & kHighBits) == 0) {
      offset += 8;
    } else if (lead > 0xE0 && lead < 0xF0 && lead != 0xED && (second & third & 0xC0) == 0x80 &&
               ((second | third) & 0x40) == 0) {
      offset += 3;
    } else if (lead < 0x80) {
      ++offset;
    } else {
      break;
    }
  }
  return offset;
}

}  // namespace

bool is_utf8(std::string_view text) { return utf8_error_offset(text) == text.size(); }

size_t utf8_error_offset(std::string_view text) {
  size_t offset = skip_plain(text, 0);
  while (offset < text.size()) {
    const Decoded decoded = decode_at(text, offset);
    if (!decoded.valid) return offset;
    offset = skip_plain(text, offset + decoded.length);
  }
  return offset;
}

size_t utf8_length(std::string_view text) {
  size_t length = 0;
  for (const char c : text) length += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return length;
}

std::vector<char32_t> utf8_to_codepoints(std::string_view text) {
  std::vector<char32_t> codepoints;
  codepoints.reserve(text.size());
  for (size_t offset = 0; offset < text.size();) {
    const Decoded decoded = decode_at(text, offset);
    codepoints.push_back(decoded.codepoint);
    offset += decoded.length;
  }
  return codepoints;
}

void append_utf8(std::string& out, char32_t codepoint) {
  if (codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint <= 0xDFFF)) {
    codepoint = kReplacement;
  }
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (codepoint < 0x80) {
    put(codepoint);
  } else if (codepoint < 0x800) {
    put(0xC0 | (codepoint >> 6));
    put(0x80 | (codepoint & 0x3F));
  } else if (codepoint < 0x10000) {
    put(0xE0 | (codepoint >> 12));
    put(0x80 | ((codepoint >> 6) & 0x3F));
    put(0x80 | (codepoint & 0x3F));
  } else {
    put(0xF0 | (codepoint >> 18));
    put(0x80 | ((codepoint >> 12) & 0x3F));
    put(0x80 | ((codepoint >> 6) & 0x3F));
    put(0x80 | (codepoint & 0x3F));
  }
}

std::string utf8_sanitize(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t offset = 0; offset < text.size();) {
    const Decoded decoded = decode_at(text, offset);
    if (decoded.valid) {
      clean += text.substr(offset, decoded.length);
    } else {
      append_utf8(clean, kReplacement);
    }
    offset += decoded.length;
  }
  return clean;
}

size_t utf8_complete_prefix(std::string_view text) {
  // The text can end inside a character only if that character's lead is one of the last 3 bytes.
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const size_t offset = text.size() - back;
    if (classify_lead(static_cast<unsigned char>(text[offset])).length == 0) continue;
    return decode_at(text, offset).truncated ? offset : text.size();
  }
  return text.size();
}

size_t utf8_invalid_length(std::string_view text) { return decode_at(text, 0).length; }

std::string utf8_nfc(std::string_view text) {
  utf8proc_uint8_t* normal = nullptr;
  const auto* const bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const utf8proc_ssize_t size =
      utf8proc_map(bytes, static_cast<utf8proc_ssize_t>(text.size()), &normal,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normal, &std::free);
  if (size < 0) fail_data("text", cat("it can't be normalized: ", utf8proc_errmsg(size)));
  return {reinterpret_cast<const char*>(normal), static_cast<size_t>(size)};
}

bool is_han(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) ||                 // unified ideographs
         (c >= 0x3400 && c <= 0x4DBF) ||                 // extension A
         (c >= 0x20000 && c <= 0x2A6DF) ||               // B
         (c >= 0x2A700 && c <= 0x2EE5F) ||               // C to F and I
         (c >= 0x30000 && c <= 0x323AF) ||               // G, H
         (c >= 0xF900 && c <= 0xFAFF) ||                 // compatibility ideographs
         (c >= 0x2F800 && c <= 0x2FA1F) || c == 0x3007;  // their supplement; zero
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (const char32_t codepoint : utf8_to_codepoints(text)) {
    const int columns = utf8proc_charwidth(static_cast<utf8proc_int32_t>(codepoint));
    if (columns > 0) width += static_cast<size_t>(columns);
  }
  return width;
}

}  // namespace llama2zh
