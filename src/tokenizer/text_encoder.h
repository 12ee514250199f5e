#pragma once

#include <string_view>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// What turns text without special tokens into ids: sentencepiece's or byte-level BPE's way. Const
// methods are thread-safe.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  // Appends. The text is valid UTF-8 and not empty.
  virtual void encode(std::string_view text, bool dummy_prefix,
                      std::vector<TokenId>& ids) const = 0;
};

}  // namespace llama2zh
