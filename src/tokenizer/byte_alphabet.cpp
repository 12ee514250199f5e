#include "tokenizer/byte_alphabet.h"

#include "llama2zh/base/utf8.h"

namespace llama2zh {

ByteAlphabet::ByteAlphabet() {
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
    append_utf8(symbols_[static_cast<size_t>(byte)], character);
    bytes_[character] = static_cast<uint8_t>(byte);
  }
}

const ByteAlphabet& ByteAlphabet::get() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

std::optional<std::string> ByteAlphabet::bytes_of(std::string_view text) const {
  std::string bytes;
  for (const char32_t character : utf8_to_codepoints(text)) {
    const auto it = bytes_.find(character);
    if (it == bytes_.end()) return std::nullopt;
    bytes += static_cast<char>(it->second);
  }
  return bytes;
}

}  // namespace llama2zh
