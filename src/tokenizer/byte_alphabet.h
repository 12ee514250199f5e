#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace llama2zh {

// The byte-level alphabet of GPT-2's encoder.py: each byte as one printable character, itself where it
// is printable in Latin-1, else U+0100 and on ("Ġ" is a space, "Ċ" a newline).
class ByteAlphabet {
 public:
  static const ByteAlphabet& get();
  const std::string& symbol(uint8_t byte) const { return symbols_[byte]; }
  // The bytes that the characters of `text` stand for; nullopt if one is none of the alphabet's.
  std::optional<std::string> bytes_of(std::string_view text) const;

 private:
  ByteAlphabet();
  std::array<std::string, 256> symbols_;
  std::unordered_map<char32_t, uint8_t> bytes_;
};

}  // namespace llama2zh
