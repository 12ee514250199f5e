#pragma once

#include <cstdint>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// Tokenised rows, wherever they are: ids and, for each, whether the loss counts it as a target.
// Const methods are thread-safe.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual int64_t size() const = 0;
  // Where the row begins when all lie end to end; begin(size()) is the end.
  virtual int64_t begin(int64_t row) const = 0;
  virtual int64_t total_supervised() const = 0;
  virtual int64_t longest() const = 0;  // tokens of the longest row, or an upper bound of it
  // Appends tokens [begin, begin + count) of the rows laid end to end. kFormat if what is stored is
  // damaged.
  virtual void read(int64_t begin, int64_t count, std::vector<TokenId>& ids,
                    std::vector<uint8_t>& supervised) const = 0;

  size_t length(int64_t row) const { return static_cast<size_t>(begin(row + 1) - begin(row)); }
  int64_t total_tokens() const { return begin(size()); }
  // The row that holds the token at `position` (0 <= position < total_tokens()).
  int64_t row_at(int64_t position) const;
};

}  // namespace llama2zh
