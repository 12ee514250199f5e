#pragma once

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "data/row_file.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {

struct RowFacts;

// What became of one row, or of a part of a long text.
struct EncodedRow {
  std::vector<TokenId> ids;         // empty: not to be used
  std::vector<uint8_t> supervised;  // empty: all are
  int64_t characters = 0;
  uint64_t hash = 0;  // of the text, or of the first part of one that comes in parts
  bool overlong = false;
  int64_t full_length = 0;  // ids before an over-long row was cut
  bool filtered = false;    // by min_characters or max_characters
  bool begins = true, ends = true;
  std::exception_ptr error;               // why the row is bad
  std::shared_ptr<const RowFacts> facts;  // of data_report's encoder; others leave it empty
};

// Rows of one kind to ids.
class RowEncoder {
 public:
  static std::unique_ptr<RowEncoder> create(const DataConfig& config, RowKind kind,
                                            const Tokenizer& tokenizer);
  virtual ~RowEncoder() = default;
  // How texts are to be read for encode().
  virtual TextOptions text_options() const { return {}; }
  // `row` is left without its text. What is wrong with the row is in the result; kUsage is thrown.
  // Thread-safe.
  virtual EncodedRow encode(RawRow& row, const std::string& file) const = 0;
};

// Whether text may be cut behind any "\n" and the parts encoded on their own (all but the first as
// continuations) without another result: true when no piece but the byte <0x0A> holds a newline and
// the normalizer leaves spaces alone, as in LLaMA's models.
bool newlines_separate(const Tokenizer& tokenizer);

}  // namespace llama2zh
