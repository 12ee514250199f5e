// Encoding is a TextEncoder's; decoding is in stream_decoder.cpp. Around it: the ids that a Hugging Face folder adds, and its
// rule of cutting a prompt at special tokens (transformers' LlamaTokenizer: legacy gives every segment the dummy prefix, else
// only the text's start; tokenizers of byte-level BPE: every segment gets it, where there is one).
#include "llama2zh/tokenizer/tokenizer.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "tokenizer/tokenizer_impl.h"

namespace llama2zh {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

void check_text(std::string_view text) {
  const size_t error = utf8_error_offset(text);
  if (error != text.size()) {
    fail_data("text", cat("it is not UTF-8: byte ", error, " does not fit"),
              "Convert it to UTF-8 first");
  }
  if (text.size() > kMaxTextBytes) {
    fail_data("text", cat("it has ", human_bytes(text.size()), ", more than 1 GiB at once"),
              "Encode it in parts");
  }
}

// Unicode's White_Space, which is what tokens with lstrip and rstrip take in.
bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Bytes of the white space that starts at `at`; 0 if there is none.
size_t white_space_at(std::string_view text, size_t at) {
  size_t length = at < text.size() ? 1 : 0;
  while (length > 0 && at + length < text.size() && (text[at + length] & 0xC0) == 0x80) ++length;
  if (length == 0 || !is_white_space(utf8_to_codepoints(text.substr(at, length)).front())) return 0;
  return length;
}

// The start of the white space that ends at `end`, not before `start`; `end` if there is none.
size_t skip_white_space_back(std::string_view text, size_t start, size_t end) {
  while (end > start) {
    size_t at = end - 1;
    while (at > start && (text[at] & 0xC0) == 0x80) --at;
    if (white_space_at(text, at) != end - at) break;
    end = at;
  }
  return end;
}

}  // namespace

size_t Tokenizer::Impl::check(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= flags.size()) {
    fail_data("token id",
              cat(id, " is not an id of this tokenizer, which has ", flags.size(), " tokens"),
              "Use the tokenizer that belongs to the model");
  }
  return static_cast<size_t>(id);
}

const Tokenizer::Impl::Mark* Tokenizer::Impl::mark_at(std::string_view whole,
                                                      size_t position) const {
  for (const Mark& mark : marks[static_cast<uint8_t>(whole[position])]) {
    if (whole.substr(position).starts_with(text(static_cast<size_t>(mark.id)))) return &mark;
  }
  return nullptr;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

void Tokenizer::encode_append(std::string_view text, bool dummy_prefix,
                              std::vector<TokenId>& ids) const {
  if (text.empty()) return;
  check_text(text);
  impl_->encoder->encode(text, dummy_prefix, ids);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  encode_append(text, true, ids);
  return ids;
}

std::vector<TokenId> Tokenizer::encode_continuation(std::string_view text) const {
  std::vector<TokenId> ids;
  encode_append(text, false, ids);
  return ids;
}

std::vector<TokenId> Tokenizer::encode_with_specials(std::string_view text) const {
  check_text(text);
  std::vector<TokenId> ids;
  size_t start = 0;  // of the segment not yet encoded
  const auto flush = [&](size_t end) {
    encode_append(text.substr(start, end - start), impl_->settings.legacy || start == 0, ids);
  };
  for (size_t i = 0; i < text.size();) {
    const Impl::Mark* mark = impl_->mark_at(text, i);
    if (mark == nullptr) {
      ++i;
      continue;
    }
    flush(mark->lstrip ? skip_white_space_back(text, start, i) : i);
    ids.push_back(mark->id);
    i += impl_->text(static_cast<size_t>(mark->id)).size();
    while (mark->rstrip) {
      const size_t space = white_space_at(text, i);
      if (space == 0) break;
      i += space;
    }
    start = i;
  }
  flush(text.size());
  return ids;
}

std::vector<std::string> Tokenizer::encode_pieces(std::string_view text) const {
  std::vector<std::string> pieces;
  for (const TokenId id : encode(text)) pieces.push_back(piece(id));
  return pieces;
}

TokenizerKind Tokenizer::kind() const {
  return impl_->is_sentencepiece() ? TokenizerKind::kSentencepiece : TokenizerKind::kByteLevelBpe;
}
int64_t Tokenizer::vocab_size() const { return impl_->size(); }
int64_t Tokenizer::model_size() const { return static_cast<int64_t>(impl_->model_size); }
const std::string& Tokenizer::piece(TokenId id) const { return impl_->text(impl_->check(id)); }
std::string Tokenizer::bytes_of(TokenId id) const { return impl_->surfaces[impl_->check(id)]; }

std::optional<TokenId> Tokenizer::id_of(std::string_view piece) const {
  const auto it = impl_->ids.find(piece);
  return it == impl_->ids.end() ? std::nullopt : std::optional(it->second);
}

bool Tokenizer::is_special(TokenId id) const {
  return (impl_->flags[impl_->check(id)] & Impl::kSpecial) != 0;
}
bool Tokenizer::is_byte(TokenId id) const {
  return (impl_->flags[impl_->check(id)] & Impl::kByteFlag) != 0;
}

TokenId Tokenizer::bos_id() const { return impl_->bos; }
TokenId Tokenizer::eos_id() const { return impl_->eos; }
std::optional<TokenId> Tokenizer::unk_id() const { return impl_->unk; }
std::optional<TokenId> Tokenizer::pad_id() const { return impl_->pad; }
bool Tokenizer::legacy() const { return impl_->settings.legacy; }
bool Tokenizer::add_bos() const { return impl_->add_bos; }
bool Tokenizer::starts_texts_with_bos() const {
  return impl_->is_sentencepiece() || impl_->add_bos;
}
const std::string& Tokenizer::hf_chat_template() const { return impl_->settings.chat_template; }
const std::string& Tokenizer::template_name() const { return impl_->settings.template_name; }
const std::string& Tokenizer::fingerprint() const { return impl_->fingerprint; }
const std::filesystem::path& Tokenizer::path() const { return impl_->path; }
const ModelProto* Tokenizer::sentencepiece() const { return impl_->proto.get(); }
const std::string* Tokenizer::tokenizer_json() const {
  return impl_->is_sentencepiece() ? nullptr : &impl_->json_text;
}
std::vector<uint8_t> Tokenizer::missing_bytes() const { return impl_->missing_bytes; }

}  // namespace llama2zh
