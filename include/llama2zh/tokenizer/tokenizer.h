#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

using TokenId = int32_t;

// A LLaMA tokenizer: a sentencepiece model, and what a Hugging Face folder says about it (special
// ids, added tokens, whether text after a special token gets the dummy prefix "▁"). The
// sentencepiece library is the truth for encoding. Const methods are thread-safe.
class Tokenizer {
 public:
  // `path` is a .model file, or a folder with tokenizer.model and, if they are there,
  // tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json (for special
  // ids; precedence in that order). A folder with only tokenizer.json is refused with advice.
  // Errors are kFormat/kIo and name the file.
  static Tokenizer load(const std::filesystem::path& path);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Plain sentencepiece: "</s>" in the text is just five characters. Never adds BOS or EOS. "" ->
  // []. The text must be valid UTF-8 (kData).
  std::vector<TokenId> encode(std::string_view text) const;
  // The same for text that continues a text: without the dummy prefix "▁".
  std::vector<TokenId> encode_continuation(std::string_view text) const;
  // Appends the ids of encode() or encode_continuation() to `ids`: what loops over corpora use.
  void encode_append(std::string_view text, bool dummy_prefix, std::vector<TokenId>& ids) const;
  // As Hugging Face's LlamaTokenizer does for whole prompts: special and added tokens in the text
  // become their ids, the segments between them are encoded one by one (each with a dummy prefix
  // when legacy, else only at the very start of the text).
  std::vector<TokenId> encode_with_specials(std::string_view text) const;
  std::vector<std::string> encode_pieces(std::string_view text) const;

  // Control pieces and added special tokens are dropped when `skip_special`, else they stand there
  // as text; each byte that is not part of valid UTF-8 becomes U+FFFD and an unknown piece " ⁇ ",
  // both as sentencepiece does it. Ids out of range are kData errors.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;

  int64_t vocab_size() const;                  // sentencepiece pieces + added tokens
  const std::string& piece(TokenId id) const;  // kData for ids out of range, here and below
  // Bytes that the id adds inside a text: "▁" is a space, <0x0A> one byte, control pieces nothing.
  std::string bytes_of(TokenId id) const;
  std::optional<TokenId> id_of(std::string_view piece) const;
  bool is_special(TokenId id) const;  // control, unknown, or an added special token
  bool is_byte(TokenId id) const;

  TokenId bos_id() const;
  TokenId eos_id() const;
  TokenId unk_id() const;
  std::optional<TokenId> pad_id() const;
  bool legacy() const;
  // Whether a generation prompt starts with BOS (tokenizer_config's add_bos_token; default true).
  bool add_bos() const;
  // chat_template of the folder (tokenizer_config.json or chat_template.jinja), and our own
  // "llama2zh_template" name if there; empty if none.
  const std::string& hf_chat_template() const;
  const std::string& template_name() const;

  // sha256 of the sentencepiece model's bytes: identifies the vocabulary in manifests.
  const std::string& fingerprint() const;
  const std::filesystem::path& path() const;  // of the .model file

  // Writes tokenizer.model, tokenizer_config.json (v4 style, LlamaTokenizer),
  // special_tokens_map.json and added_tokens.json if there are any. `template_name` (may be empty)
  // is stored as "llama2zh_template"; a Jinja chat_template equal to it is written where one is
  // known.
  void save(const std::filesystem::path& folder, std::string_view template_name) const;

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// "llama2zh_template" in the folder's tokenizer_config.json, without loading the tokenizer; "" if
// there is none.
std::string stored_template(const std::filesystem::path& folder);

// Turns ids into text as they come. Text is released only when it can't change any more: bytes of
// an unfinished UTF-8 character are held back, and the first piece's leading space is dropped as
// decode() does. concatenation of all pushes + finish() == decode(ids).
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string push(TokenId id);
  void push(TokenId id, std::string& out);  // appends to `out`
  std::string finish();                     // what was held back, with U+FFFD for broken bytes

 private:
  void release(bool all, std::string& out);
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool at_start_ = true;
  std::string held_;
};

}  // namespace llama2zh
