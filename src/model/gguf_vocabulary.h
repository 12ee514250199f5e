#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/gguf.h"
#include "llama2zh/tokenizer/model_proto.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

inline constexpr std::string_view kVisibleSpace = "\u2581";  // of sentencepiece

// tokenizer.ggml.* as every kind of tokenizer has it; ids are checked against the tokens.
struct GgufVocabulary {
  std::vector<std::string> tokens;
  std::vector<PieceType> types;  // as many
  std::optional<size_t> bos, eos, unknown, padding;
  bool add_bos = true;
  std::string chat_template;  // Jinja; empty if there is none
};
GgufVocabulary read_gguf_vocabulary(const GgufMetadata& data, bool add_bos_by_default);

// tokenizer_config.json with what both kinds need: special tokens, added_tokens_decoder, template.
ordered_json gguf_tokenizer_config(const GgufVocabulary& vocabulary,
                                   std::string_view tokenizer_class);

// tokenizer.json of a byte-level BPE vocabulary (tokenizer.ggml.model "gpt2"); nullopt if the way it
// cuts texts into words (tokenizer.ggml.pre) is not known here.
std::optional<ordered_json> gguf_bpe_json(const GgufMetadata& data,
                                          const GgufVocabulary& vocabulary);

// The values of tokenizer.ggml.pre that gguf_bpe_json() knows.
std::vector<std::string> gguf_word_cuts();

// A byte-level BPE on its way into a file.
struct GgufBpe {
  std::string word_cut;             // tokenizer.ggml.pre
  std::vector<std::string> merges;  // "left right"
  std::set<TokenId> added;          // of tokenizer.json's added_tokens
};
// kUsage naming tokenizer.json if the way it cuts texts has no name in GGUF that is known here.
GgufBpe gguf_bpe_of(const Tokenizer& tokenizer);

// The keys of a tokenizer: kUsage as gguf_bpe_of().
void put_gguf_vocabulary(const Tokenizer& tokenizer, GgufMetadata& data);

}  // namespace llama2zh
