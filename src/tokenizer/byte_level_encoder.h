#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "tokenizer/byte_level_file.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/text_encoder.h"

namespace llama2zh {

// Byte-level BPE as Hugging Face's tokenizers applies it: normalize, cut into words, take each word's
// bytes as symbols, merge. `dummy_prefix` is the space of add_prefix_space, where the file asks for
// one.
class ByteLevelEncoder : public TextEncoder {
 public:
  // kFormat naming `where` for patterns that can't be used and merges listed twice.
  ByteLevelEncoder(ByteLevelFile file, const std::string& where);
  ~ByteLevelEncoder() override;
  void encode(std::string_view text, bool dummy_prefix, std::vector<TokenId>& ids) const override;

 private:
  struct Worker;  // what one thread needs: states of the patterns, and words it has seen
  std::unique_ptr<Worker> borrow() const;
  void encode_word(std::string_view word, Worker& worker, std::vector<TokenId>& ids) const;
  void find_symbols(std::string_view word, std::vector<TokenId>& symbols) const;

  ByteLevelFile file_;
  WordSplitter splitter_;
  MergeTable merges_;
  std::unordered_map<std::string, TokenId> whole_words_;  // by their bytes, with ignore_merges
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Worker>> idle_;
};

}  // namespace llama2zh
