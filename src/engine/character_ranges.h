#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace llama2zh {

// Code points, both ends included.
using CharacterRanges = std::vector<std::pair<uint32_t, uint32_t>>;
inline constexpr uint32_t kLastCharacter = 0x10FFFF;

// All characters that are not in `ranges`.
CharacterRanges complement(CharacterRanges ranges);

}  // namespace llama2zh
