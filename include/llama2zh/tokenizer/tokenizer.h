#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

using TokenId = int32_t;
class ModelProto;

// A tokenizer's files by the names that they have in a Hugging Face folder, wherever they come from.
struct TokenizerFiles {
  std::filesystem::path origin;  // the folder or file they come from
  std::map<std::string, std::string> contents;

  // Those of the folder that have to do with its tokenizer: tokenizer.model, else tokenizer.json;
  // tokenizer_config.json, special_tokens_map.json, added_tokens.json, chat_template.jinja and
  // config.json. kIo for files that can't be read.
  static TokenizerFiles of_folder(const std::filesystem::path& folder);
  const std::string* find(const std::string& name) const;  // null if there is no such file
  std::string where(const std::string& name) const;        // for messages
};
// Whether the folder has a tokenizer of a kind that is read here: a tokenizer.model, or a tokenizer.json
// that holds a byte-level BPE.
bool has_tokenizer(const std::filesystem::path& folder);

enum class TokenizerKind { kSentencepiece, kByteLevelBpe };

// A model's tokenizer: a sentencepiece model (LLaMA, LLaMA-2) or a byte-level BPE (GPT-2's family:
// Llama 3, SmolLM2), and what a Hugging Face folder says about it (special ids, added tokens, whether
// text after a special token gets the dummy prefix "▁"). The sentencepiece library is the truth for
// the former, Hugging Face's tokenizers for the latter. Const methods are thread-safe.
class Tokenizer {
 public:
  // `path` is a .model file, or a folder with tokenizer.model, or with a tokenizer.json that holds a
  // byte-level BPE (another is refused with advice), and, if they are there,
  // tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json (for special
  // ids; precedence in that order). Errors are kFormat/kIo and name the file.
  static Tokenizer load(const std::filesystem::path& path);
  static Tokenizer from_files(const TokenizerFiles& files);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Plain text: "</s>" in it is just five characters. Never adds BOS or EOS. "" -> []. The text must
  // be valid UTF-8 (kData).
  std::vector<TokenId> encode(std::string_view text) const;
  // The same for text that continues a text: without the dummy prefix "▁" (of a byte-level BPE: the
  // space of add_prefix_space).
  std::vector<TokenId> encode_continuation(std::string_view text) const;
  // Appends the ids of encode() or encode_continuation() to `ids`: what loops over corpora use.
  void encode_append(std::string_view text, bool dummy_prefix, std::vector<TokenId>& ids) const;
  // As Hugging Face's tokenizers do for whole prompts: special and added tokens in the text
  // become their ids, the segments between them are encoded one by one (each with a dummy prefix
  // when legacy, else only at the very start of the text).
  std::vector<TokenId> encode_with_specials(std::string_view text) const;
  std::vector<std::string> encode_pieces(std::string_view text) const;

  // Control pieces and added special tokens are dropped when `skip_special`, else they stand there
  // as text. Each byte that is not part of valid UTF-8 becomes U+FFFD and an unknown piece " ⁇ ", both
  // as sentencepiece does it; with a byte-level BPE each maximal invalid part does, as tokenizers does
  // it. Ids out of range are kData errors.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;

  TokenizerKind kind() const;
  int64_t vocab_size() const;  // the model's pieces + added tokens
  int64_t model_size() const;  // without the tokens that the folder adds behind them
  // As the vocabulary spells it: "▁the", or "Ġthe" in the byte-level alphabet. kData for ids out of
  // range, here and below.
  const std::string& piece(TokenId id) const;
  // Bytes that the id adds inside a text: "▁" is a space, <0x0A> one byte, control pieces nothing.
  std::string bytes_of(TokenId id) const;
  std::optional<TokenId> id_of(std::string_view piece) const;
  bool is_special(TokenId id) const;  // control, unknown, or an added special token
  bool is_byte(TokenId id) const;     // a byte piece of sentencepiece, <0x0A>

  // Of a byte-level BPE without BOS (add_bos() is false then): eos_id(), which separates its texts.
  TokenId bos_id() const;
  TokenId eos_id() const;
  std::optional<TokenId> unk_id() const;  // sentencepiece has one always
  std::optional<TokenId> pad_id() const;
  bool legacy() const;
  // Whether a generation prompt starts with BOS: sentencepiece, tokenizer_config's add_bos_token,
  // default true; byte-level BPE: whether tokenizer.json's post_processor puts it there.
  bool add_bos() const;
  // Whether a text to train on starts with BOS. With sentencepiece it always does.
  bool starts_texts_with_bos() const;
  // chat_template of the folder (tokenizer_config.json or chat_template.jinja), and our own
  // "llama2zh_template" name if there; empty if none.
  const std::string& hf_chat_template() const;
  const std::string& template_name() const;

  // sha256 of the bytes of tokenizer.model or tokenizer.json: identifies the vocabulary in manifests.
  const std::string& fingerprint() const;
  const std::filesystem::path& path() const;  // of the file that holds the vocabulary
  const ModelProto* sentencepiece() const;    // null for a byte-level BPE
  const std::string* tokenizer_json() const;  // as it was read; null for sentencepiece
  // Bytes that valid UTF-8 can hold and a byte-level BPE has no symbol for, as SmolLM2's: encoding
  // leaves them out (or writes unk_token, where the model has one), as tokenizers does.
  std::vector<uint8_t> missing_bytes() const;

  // Writes tokenizer.model or tokenizer.json as it was read, tokenizer_config.json (v4 style),
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
