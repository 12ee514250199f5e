// Scripts are told apart by Unicode's blocks: what is not a letter there (general punctuation, symbols,
// full-width forms but their Latin letters) says nothing about a language.
#include "llama2zh/tokenizer/text_count.h"

#include <algorithm>

#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

struct Block {
  char32_t first, last;
};
bool in_any(char32_t c, std::initializer_list<Block> blocks) {
  return std::any_of(blocks.begin(), blocks.end(),
                     [c](const Block& block) { return c >= block.first && c <= block.last; });
}

bool is_latin(char32_t c) {
  return in_any(c, {{'A', 'Z'},
                    {'a', 'z'},
                    {0xC0, 0xD6},
                    {0xD8, 0xF6},
                    {0xF8, 0x24F},
                    {0x1E00, 0x1EFF},
                    {0xFF21, 0xFF3A},
                    {0xFF41, 0xFF5A}});
}
bool is_kana_or_hangul(char32_t c) {
  return in_any(c, {{0x3041, 0x3096},
                    {0x309D, 0x309F},
                    {0x30A1, 0x30FA},
                    {0x30FD, 0x30FF},
                    {0x31F0, 0x31FF},
                    {0xFF66, 0xFF9D},
                    {0x1100, 0x11FF},
                    {0x3130, 0x318F},
                    {0xAC00, 0xD7A3}});
}
// Below Greek only Latin letters are letters; above, what lies in these blocks is none.
bool is_neutral(char32_t c) {
  return c < 0x370 || in_any(c, {{0x2000, 0x2BFF},
                                 {0x2E00, 0x2E7F},
                                 {0x3000, 0x3040},
                                 {0x3097, 0x30A0},
                                 {0x30FB, 0x30FC},
                                 {0x3200, 0x33FF},
                                 {0xE000, 0xF8FF},
                                 {0xFE00, 0xFE6F},
                                 {0xFEFF, 0xFF20},
                                 {0xFF3B, 0xFF40},
                                 {0xFF5B, 0xFF65},
                                 {0xFFE0, 0xFFFF},
                                 {0x1F000, 0x1FAFF}});
}

double ratio(int64_t part, int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

void LetterCounts::operator+=(const LetterCounts& more) {
  han += more.han;
  latin += more.latin;
  other += more.other;
  neutral += more.neutral;
  kana_hangul += more.kana_hangul;
}

Script script_of(char32_t codepoint) {
  if (is_han(codepoint)) return Script::kHan;
  if (is_latin(codepoint)) return Script::kLatin;
  if (is_neutral(codepoint)) return Script::kNeutral;
  return is_kana_or_hangul(codepoint) ? Script::kKanaOrHangul : Script::kOther;
}

LetterCounts count_letters(std::string_view text) {
  LetterCounts counts;
  for (const char32_t c : utf8_to_codepoints(text)) {
    switch (script_of(c)) {
      case Script::kHan:
        ++counts.han;
        break;
      case Script::kLatin:
        ++counts.latin;
        break;
      case Script::kNeutral:
        ++counts.neutral;
        break;
      case Script::kKanaOrHangul:
        ++counts.kana_hangul;
        [[fallthrough]];
      case Script::kOther:
        ++counts.other;
        break;
    }
  }
  return counts;
}

Language language_of(const LetterCounts& letters) {
  constexpr int64_t kLettersOfACharacter = 3;
  int64_t chinese = kLettersOfACharacter * letters.han;
  int64_t other = letters.other + (kLettersOfACharacter - 1) * letters.kana_hangul;
  if (letters.kana_hangul * 10 >= letters.han && letters.kana_hangul > 0) {
    other += chinese;
    chinese = 0;
  }
  if (chinese > 0 && chinese >= letters.latin && chinese >= other) return Language::kChinese;
  return letters.latin > other ? Language::kEnglish : Language::kOther;
}

void TokenCount::operator+=(const TokenCount& more) {
  lines += more.lines;
  characters += more.characters;
  bytes += more.bytes;
  tokens += more.tokens;
  byte_tokens += more.byte_tokens;
}
double TokenCount::characters_per_token() const { return ratio(characters, tokens); }
double TokenCount::byte_rate() const { return ratio(byte_tokens, tokens); }

TokenCounter::TokenCounter(const Tokenizer& tokenizer)
    : tokenizer_(&tokenizer),
      is_byte_(static_cast<size_t>(tokenizer.vocab_size())),
      uses_(static_cast<size_t>(tokenizer.vocab_size())) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    is_byte_[static_cast<size_t>(id)] = tokenizer.is_byte(id) || !is_utf8(tokenizer.bytes_of(id));
}

TokenCount TokenCounter::count(std::string_view line) {
  ids_.clear();
  tokenizer_->encode_append(line, /*dummy_prefix=*/true, ids_);
  TokenCount result{.lines = 1,
                    .characters = static_cast<int64_t>(utf8_length(line)),
                    .bytes = static_cast<int64_t>(line.size()),
                    .tokens = static_cast<int64_t>(ids_.size())};
  for (const TokenId id : ids_) {
    ++uses_[static_cast<size_t>(id)];
    if (is_byte_[static_cast<size_t>(id)]) ++result.byte_tokens;
  }
  return result;
}

}  // namespace llama2zh
