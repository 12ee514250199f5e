#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/gguf.h"

namespace llama2zh {

static_assert(std::endian::native == std::endian::little);

inline constexpr const char* kGgufFetchAgain = "copy or download the file again";

// Reads on through the bytes of the file `where`; every step says what it was after and is checked
// against what is left.
class GgufCursor {
 public:
  GgufCursor(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  std::string_view take(uint64_t size, std::string_view what) {
    if (size > left()) {
      fail_format(where_,
                  cat("the file is truncated or damaged: ", what, " at byte ", position_, " takes ",
                      size, " bytes, the file has ", left(), " left"),
                  kGgufFetchAgain);
    }
    const auto part = bytes_.substr(position_, size);
    position_ += size;
    return part;
  }

  template <typename T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string string(std::string_view what) {
    const auto length = number<uint64_t>(what);
    return std::string(take(length, what));
  }

  // A number of things of at least `least` bytes each.
  uint64_t count(uint64_t value, uint64_t least, std::string_view what) const {
    if (value > left() / least) {
      fail_format(
          where_,
          cat("the file is truncated or damaged: ", value, " ", what, " are claimed at byte ",
              position_, ", more than the rest of the file (", left(), " bytes) can hold"),
          kGgufFetchAgain);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  const std::string& where_;
  uint64_t position_ = 0;
};

// Reads `count` keys with their values; the count must be known to fit into the file.
void read_gguf_metadata(GgufCursor& cursor, uint64_t count, const std::string& where,
                        GgufMetadata& metadata);

}  // namespace llama2zh
