#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "llama2zh/tokenizer/model_proto.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "tokenizer/hf_folder.h"
#include "tokenizer/text_encoder.h"

namespace llama2zh {

struct Tokenizer::Impl {
  struct Mark {  // a token that encode_with_specials looks for in the text
    TokenId id;
    bool lstrip, rstrip;
  };
  enum Flag : uint8_t {
    kSpecial = 1,
    kByteFlag = 2,
    kControlFlag = 4,
    kUnknownFlag = 8,
    kFragment = 16  // its bytes may be a part of a character
  };

  std::filesystem::path path;
  std::string where;  // `path` for messages
  std::string fingerprint;
  FolderSettings settings;

  // One of the two: the sentencepiece model, or tokenizer.json as it was read.
  std::unique_ptr<const ModelProto> proto;
  std::string json_text;
  std::unique_ptr<const TextEncoder> encoder;
  std::vector<uint8_t> missing_bytes;
  bool add_bos = true;
  // What decoding leaves out at the start of a text: the space of the dummy prefix, or all spaces.
  bool drops_first_space = false, drops_first_spaces = false;

  std::vector<std::string> texts;  // by id
  std::unordered_map<std::string_view, TokenId> ids;
  std::vector<std::string> surfaces;  // what an id adds to the text, of a byte piece the byte
  std::vector<uint8_t> flags;
  size_t model_size = 0;                     // ids from here on are the folder's added tokens
  std::array<std::vector<Mark>, 256> marks;  // by their first byte, the longest first

  TokenId bos = 0, eos = 0;
  std::optional<TokenId> pad, unk;

  bool is_sentencepiece() const { return proto != nullptr; }
  int64_t size() const { return static_cast<int64_t>(flags.size()); }
  size_t check(TokenId id) const;
  const std::string& text(size_t id) const { return texts[id]; }
  // The longest mark that stands at `position`, or null.
  const Mark* mark_at(std::string_view text, size_t position) const;

  void load_sentencepiece(const TokenizerFiles& files, bool with_settings);
  void load_byte_level(const TokenizerFiles& files);
  void add_piece(std::string text, std::string surface, uint8_t flag);
  void reserve(size_t pieces);
  void index_added();
  void find_special_ids();
  void index_marks();
  std::optional<TokenId> resolve(const FolderSettings::Special& special,
                                 std::string_view name) const;
  std::optional<TokenId> control_piece(const std::string& text) const;
};

}  // namespace llama2zh
