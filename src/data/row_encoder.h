#pragma once

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "data/row_file.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {

// What became of one row.
struct EncodedRow {
  std::vector<TokenId> ids;  // empty: not to be used
  std::vector<uint8_t> supervised;
  int64_t characters = 0;
  bool overlong = false;
  std::exception_ptr error;  // why the row is bad
};

// Rows of one kind to ids, many at a time on all cores.
class RowEncoder {
 public:
  static std::unique_ptr<RowEncoder> create(const DataConfig& config, RowKind kind,
                                            const Tokenizer& tokenizer);
  virtual ~RowEncoder() = default;
  // One result a row, in the rows' order; `rows` are used up.
  virtual std::vector<EncodedRow> encode(std::vector<RawRow>& rows, const std::string& file) = 0;
};

// Whether text may be cut behind any "\n" and the parts encoded on their own (all but the first as
// continuations) without another result: true when no piece but the byte <0x0A> holds a newline and
// the normalizer leaves spaces alone, as in LLaMA's models.
bool newlines_separate(const Tokenizer& tokenizer);

}  // namespace llama2zh
