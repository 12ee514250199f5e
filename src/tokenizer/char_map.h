#pragma once

#include <string_view>

namespace llama2zh {

// Checks a normalizer's `precompiled_charsmap` so that no text can make sentencepiece read outside it. An empty one is
// fine. Throws kFormat naming `where`.
void check_char_map(std::string_view blob, std::string_view where);

}  // namespace llama2zh
