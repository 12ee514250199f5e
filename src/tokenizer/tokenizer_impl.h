#pragma once

#include <sentencepiece_processor.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "llama2zh/tokenizer/model_proto.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "tokenizer/hf_folder.h"

namespace llama2zh {

struct Tokenizer::Impl {
  struct Mark {  // a token that encode_with_specials looks for in the text
    TokenId id;
    bool lstrip, rstrip;
  };
  enum Flag : uint8_t { kSpecial = 1, kByteFlag = 2, kControlFlag = 4, kUnknownFlag = 8 };

  std::filesystem::path path;
  std::string fingerprint;
  ModelProto proto;
  FolderSettings settings;
  std::vector<AddedToken> added;  // with ids from the model's size on, in order

  sentencepiece::SentencePieceProcessor processor;
  mutable std::once_flag continuation_once;
  mutable std::unique_ptr<sentencepiece::SentencePieceProcessor> continuation_processor;

  std::unordered_map<std::string_view, TokenId> ids;
  std::vector<std::string> surfaces;  // what an id adds to the text, of a byte piece the byte
  std::vector<uint8_t> flags;
  std::array<std::vector<Mark>, 256> marks;  // by their first byte, the longest first

  TokenId bos = 0, eos = 0, unk = 0;
  std::optional<TokenId> pad;

  int64_t size() const { return static_cast<int64_t>(flags.size()); }
  size_t check(TokenId id) const;
  const std::string& text(size_t id) const;
  const sentencepiece::SentencePieceProcessor& continuation() const;
  // The longest mark that stands at `position`, or null.
  const Mark* mark_at(std::string_view text, size_t position) const;

  void load_model(const std::filesystem::path& model_file);
  void index_pieces();
  void index_added();
  void index_marks();
  std::optional<TokenId> resolve(const FolderSettings::Special& special, std::string_view name,
                                 const std::string& model_piece) const;
};

}  // namespace llama2zh
