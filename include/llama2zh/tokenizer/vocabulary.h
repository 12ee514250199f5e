#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/tokenizer/model_proto.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct VocabularyMerge {
  ModelProto model;
  std::vector<std::string> added;       // in id order, from base size on
  std::vector<std::string> duplicates;  // pieces of the extension that the base has already
};

// ymcui's rule: every piece of `extension` in file order whose text is not in `base` is appended
// with score 0; specs stay the base's. LLaMA-2 (32,000) with chinese_sp (20,000) gives the
// published 49,953 pieces byte for byte.
VocabularyMerge merge_vocabulary(const ModelProto& base, const ModelProto& extension);

struct VocabularyReport {
  int64_t base_size = 0, extension_size = 0, merged_size = 0, added = 0, duplicates = 0;
  std::vector<std::string> unreachable;  // added pieces that their own text does not encode to
  std::vector<std::string>
      displaced;  // old NORMAL pieces that encoded to themselves before and no longer do
};
VocabularyReport report_merge(const Tokenizer& base, const Tokenizer& merged,
                              const VocabularyMerge& merge);

// Whether a piece may come out of encoding: its own text, inside a text, gives it. Always false for
// special tokens, byte pieces and pieces of a byte-level BPE that end inside a character.
bool encodes_to_itself(const Tokenizer& tokenizer, TokenId id);
// Whether the id is a piece of text: not special, not a byte, and whole characters.
bool is_text_piece(const Tokenizer& tokenizer, TokenId id);

// For each new id from base size on: the base ids that its text encoded to before the merge, for
// sub-piece initialisation. The text is what the piece adds inside a sentence ("▁" = space; pieces
// without it are encoded without the dummy prefix). Never empty.
std::vector<std::vector<TokenId>> sub_pieces(const Tokenizer& base,
                                             const std::vector<std::string>& added);

struct TokenizerTraining {
  std::vector<std::filesystem::path>
      inputs;  // .txt (a sentence a line), .jsonl(.gz/.zst) with `field`
  std::string field = "text";
  int64_t vocab_size = 20000;
  std::string model_type = "bpe";  // bpe | unigram
  double character_coverage = 0.9995;
  bool split_digits = true;
  int64_t threads = 0;  // 0: all cores
  int64_t max_sentence_bytes = 4192 * 4;
  int64_t input_sentences = 0;  // sample at most so many lines; 0: all
  uint64_t seed = 100;
};
// Trains with sentencepiece: identity normalizer, byte fallback, no whitespace removal, unk/bos/eos
// 0/1/2, no pad: LLaMA's settings. Writes `output` atomically. Throws kData when the text can't
// give that many pieces (names the possible maximum).
void train_tokenizer(const TokenizerTraining& options, const std::filesystem::path& output);

}  // namespace llama2zh
