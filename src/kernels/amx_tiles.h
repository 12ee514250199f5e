#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

namespace llama2zh {

// Whether the system lets this process use AMX's tiles; asked for once.
bool may_use_amx();

// Shapes of the eight tile registers, as the processor reads them.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};

  void set(int tile, int64_t tile_rows, int64_t row_bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    bytes[tile] = static_cast<uint16_t>(row_bytes);
  }
};

// The tile registers have these shapes while one lives; those of others (oneDNN's) come back behind
// it.
class TileShapes {
 public:
  [[gnu::target("amx-tile")]] explicit TileShapes(const TileConfig& config) {
    _tile_storeconfig(&before_);
    change(config);
  }
  [[gnu::target("amx-tile")]] ~TileShapes() { change(before_); }
  TileShapes(const TileShapes&) = delete;
  TileShapes& operator=(const TileShapes&) = delete;

  [[gnu::target("amx-tile")]] static void change(const TileConfig& config) {
    // GCC's intrinsics tell it of the first eight bytes alone: it would leave stores to the rest
    // out.
    asm volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
  }

 private:
  TileConfig before_;
};

}  // namespace llama2zh

#endif
