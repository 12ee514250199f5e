#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/json.h"
#include "tokenizer/hf_folder.h"
#include "tokenizer/word_splitter.h"

namespace llama2zh {

// What a tokenizer.json with a byte-level BPE says (Hugging Face's tokenizers writes it).
struct ByteLevelFile {
  struct Merge {
    TokenId left, right, result;
  };

  std::vector<std::string> tokens;  // by id: the vocabulary's and the added ones
  std::vector<Merge> merges;        // the first is applied first
  std::vector<AddedToken> added;
  std::array<TokenId, 256> byte_ids;  // -1 where the vocabulary has no symbol for the byte
  std::optional<TokenId> unk;         // stands for such bytes; else they are left out
  bool fuse_unk = false;              // one for a run of them
  bool ignore_merges = false;         // a word that is a token is taken whole
  bool normalize_nfc = false;
  bool add_prefix_space = false;
  std::vector<SplitStep> steps;
  std::string bos;  // what post_processor puts in front of texts; empty: nothing

  // kFormat naming `where` and the key for whatever is not understood, ids that are given twice, left
  // out or out of range, and merges of or into what is no token.
  static ByteLevelFile parse(std::string_view text, const std::string& where);
  // Bytes that occur in valid UTF-8, but have no symbol.
  std::vector<uint8_t> missing_bytes() const;
};

// Whether a tokenizer.json holds what parse() is for, or something else that other programs read.
bool is_byte_level(const json& root);

// The parts of parse() that concern how texts are cut: steps and add_prefix_space.
void read_pre_tokenizer(const json& value, const std::string& where, ByteLevelFile& file);

}  // namespace llama2zh
