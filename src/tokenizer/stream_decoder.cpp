// Decoding as sentencepiece does it: control pieces are nothing; "▁" is a space, and the one that a text starts with is
// dropped if the model adds it; a run of byte pieces is read as UTF-8, each byte that does not fit becoming U+FFFD. A byte
// run ends at any other piece. Every token of a byte-level BPE is such bytes, and tokens left out do not end a run; there a
// maximal invalid part becomes one U+FFFD (Rust's from_utf8_lossy). decode() and StreamDecoder are one piece of code, so that
// they cannot differ.
#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"

namespace llama2zh {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

// Moves from held_ to `out` what is settled: whole characters, and bytes that no further byte can make valid. With `all`
// there are no further bytes.
void StreamDecoder::release(bool all, std::string& out) {
  const bool whole_parts = !tokenizer_->impl_->is_sentencepiece();
  size_t done = 0;
  while (done < held_.size()) {
    const std::string_view rest = std::string_view(held_).substr(done);
    const size_t valid = utf8_error_offset(rest);
    if (valid > 0) {
      out.append(rest.substr(0, valid));
      done += valid;
    } else if (all || utf8_complete_prefix(rest) > 0) {
      out.append(kReplacement);
      done += whole_parts ? utf8_invalid_length(rest) : 1;
    } else {
      break;  // the beginning of a character
    }
  }
  if (done > 0) at_start_ = false;
  held_.erase(0, done);
}

void StreamDecoder::push(TokenId id, std::string& out) {
  const Tokenizer::Impl& impl = *tokenizer_->impl_;
  const size_t index = impl.check(id);
  const uint8_t flag = impl.flags[index];
  if ((flag & Tokenizer::Impl::kFragment) != 0) {
    held_ += impl.surfaces[index];
    release(false, out);
    return;
  }
  const bool is_nothing = skip_special_ && (flag & Tokenizer::Impl::kSpecial) != 0;
  if (is_nothing && !impl.is_sentencepiece()) return;
  if (!held_.empty()) release(true, out);
  if ((flag & Tokenizer::Impl::kSpecial) != 0) {
    const bool unknown = (flag & Tokenizer::Impl::kUnknownFlag) != 0;
    if (skip_special_ && !unknown) return;
    out += unknown && skip_special_ ? impl.surfaces[index] : impl.text(index);
    at_start_ = false;
    return;
  }
  std::string_view surface = impl.surfaces[index];
  bool dropped = false;
  if (at_start_ && impl.drops_first_space && surface.starts_with(' ')) {
    surface.remove_prefix(1);
    dropped = true;
  }
  out.append(surface);
  // A model that removes extra spaces goes on dropping them until there is text.
  if (!surface.empty() || (dropped && !impl.drops_first_spaces)) at_start_ = false;
}

std::string StreamDecoder::push(TokenId id) {
  std::string out;
  push(id, out);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  release(true, out);
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  text.reserve(ids.size() * 4);
  StreamDecoder decoder(*this, skip_special);
  for (const TokenId id : ids) decoder.push(id, text);
  return text + decoder.finish();
}

}  // namespace llama2zh
