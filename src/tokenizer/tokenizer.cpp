// Encoding is sentencepiece's own (the library is the truth: other BPE implementations differ on merged vocabularies);
// decoding is in stream_decoder.cpp. Around it: the ids that a Hugging Face folder adds, and its rule of cutting a prompt at
// special tokens (transformers' LlamaTokenizer: legacy gives every segment the dummy prefix, else only the text's start).
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

}  // namespace

size_t Tokenizer::Impl::check(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= flags.size()) {
    fail_data("token id",
              cat(id, " is not an id of this tokenizer, which has ", flags.size(), " tokens"),
              "Use the tokenizer that belongs to the model");
  }
  return static_cast<size_t>(id);
}

const std::string& Tokenizer::Impl::text(size_t id) const {
  const size_t pieces = proto.pieces().size();
  return id < pieces ? proto.pieces()[id].text : added[id - pieces].text;
}

const Tokenizer::Impl::Mark* Tokenizer::Impl::mark_at(std::string_view where,
                                                      size_t position) const {
  for (const Mark& mark : marks[static_cast<uint8_t>(where[position])]) {
    if (where.substr(position).starts_with(text(static_cast<size_t>(mark.id)))) return &mark;
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
  const auto& processor = dummy_prefix ? impl_->processor : impl_->continuation();
  std::vector<TokenId> found;
  const auto status = processor.Encode(text, &found);
  if (!status.ok())
    fail_data("text", cat("sentencepiece could not encode it: ", status.error_message()));
  ids.insert(ids.end(), found.begin(), found.end());
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
  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
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
    size_t end = i;
    while (mark->lstrip && end > start && is_space(text[end - 1])) --end;
    flush(end);
    ids.push_back(mark->id);
    i += impl_->text(static_cast<size_t>(mark->id)).size();
    while (mark->rstrip && i < text.size() && is_space(text[i])) ++i;
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

int64_t Tokenizer::vocab_size() const { return impl_->size(); }
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
TokenId Tokenizer::unk_id() const { return impl_->unk; }
std::optional<TokenId> Tokenizer::pad_id() const { return impl_->pad; }
bool Tokenizer::legacy() const { return impl_->settings.legacy; }
bool Tokenizer::add_bos() const { return impl_->settings.add_bos; }
const std::string& Tokenizer::hf_chat_template() const { return impl_->settings.chat_template; }
const std::string& Tokenizer::template_name() const { return impl_->settings.template_name; }
const std::string& Tokenizer::fingerprint() const { return impl_->fingerprint; }
const std::filesystem::path& Tokenizer::path() const { return impl_->path; }

}  // namespace llama2zh
