// The encoder of training, with a second look at the row's text. Rows are parsed twice for that, which
// is little beside encoding them.
#include "data/row_facts.h"

#include <algorithm>

#include "data/row_text.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/data/preference_rows.h"

namespace llama2zh {
namespace {

constexpr char32_t kFullWidthFirst = 0xFF01, kFullWidthLast = 0xFF5E, kToAscii = 0xFEE0;

char32_t folded(char32_t c) {
  if (c >= kFullWidthFirst && c <= kFullWidthLast) c -= kToAscii;
  return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

// splitmix64's finisher: neighbouring code points become unrelated numbers.
uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

std::string_view as_bytes(const std::vector<uint64_t>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(uint64_t)};
}

}  // namespace

std::vector<uint64_t> text_units(std::string_view text) {
  std::vector<uint64_t> units;
  uint64_t word = 0;  // of the run of letters under way; 0: none
  const auto end_word = [&] {
    if (word != 0) units.push_back(word);
    word = 0;
  };
  for (char32_t c : utf8_to_codepoints(text)) {
    c = folded(c);
    const Script script = script_of(c);
    const bool digit = c >= '0' && c <= '9';
    if (script == Script::kHan || script == Script::kKanaOrHangul) {
      end_word();
      units.push_back(mixed(c));
    } else if (script == Script::kNeutral && !digit) {
      end_word();
    } else {
      word = mixed(word ^ c) | 1;
    }
  }
  end_word();
  return units;
}

std::vector<uint64_t> gram_hashes(const std::vector<uint64_t>& units, size_t n) {
  std::vector<uint64_t> grams;
  for (size_t i = 0; n > 0 && i + n <= units.size(); ++i)
    grams.push_back(xxh64({reinterpret_cast<const char*>(units.data() + i), n * sizeof(uint64_t)}));
  return grams;
}

GramIndex::GramIndex(std::vector<uint64_t> grams) : grams_(std::move(grams)) {
  std::sort(grams_.begin(), grams_.end());
  grams_.erase(std::unique(grams_.begin(), grams_.end()), grams_.end());
  grams_.shrink_to_fit();
  filter_.resize(16 * grams_.size());
  for (const uint64_t gram : grams_) filter_[gram % filter_.size()] = true;
}

int64_t GramIndex::find(uint64_t gram) const {
  if (grams_.empty() || !filter_[gram % filter_.size()]) return -1;
  const auto at = std::lower_bound(grams_.begin(), grams_.end(), gram);
  return at != grams_.end() && *at == gram ? at - grams_.begin() : -1;
}

FactsEncoder::FactsEncoder(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                           size_t gram_size, const GramIndex* index)
    : encoder_(RowEncoder::create(config, kind, tokenizer)),
      config_(config),
      kind_(kind),
      gram_size_(gram_size),
      index_(index) {}

EncodedRow FactsEncoder::encode(RawRow& raw, const std::string& file) const {
  auto facts = std::make_shared<RowFacts>();
  facts->line = raw.numbered ? raw.line : 0;
  RawRow copy = raw;
  EncodedRow row = encoder_->encode(raw, file);
  try {
    note_row(copy, file, *facts);
    facts->understood = true;
  } catch (const Error&) {  // the encoder has said what is wrong
    facts->understood = false;
  }
  row.facts = std::move(facts);
  return row;
}

std::shared_ptr<const RowFacts> FactsEncoder::facts_of_text(std::string_view text,
                                                            int64_t line) const {
  auto facts = std::make_shared<RowFacts>();
  facts->line = line;
  facts->understood = true;
  std::vector<uint64_t> hashes;
  note_text(text, *facts, hashes);
  facts->hash = xxh64(as_bytes(hashes));
  return facts;
}

void FactsEncoder::note_row(RawRow& raw, const std::string& file, RowFacts& facts) const {
  std::vector<uint64_t> hashes;
  if (kind_ == RowKind::kPretrain) {
    note_text(text_of_row(raw, config_.field, file), facts, hashes);
  } else {
    const std::string place = row_place(raw, file);
    const json value = parse_row(raw, file);
    if (config_.format == "preference") {
      const PreferencePair pair = parse_preference(value, place);
      for (const Message& message : pair.dialogue) note_message(message, facts, hashes);
      for (const std::string& answer : {pair.chosen, pair.rejected})
        note_message({Role::kAssistant, answer}, facts, hashes);
    } else if (config_.format == "auto" && is_text_row(value)) {
      note_text(value["text"].get<std::string>(), facts, hashes);
    } else {
      for (const Message& message : parse_dialogue(value, config_.format, place))
        note_message(message, facts, hashes);
    }
  }
  facts.hash = xxh64(as_bytes(hashes));
}

void FactsEncoder::note_message(const Message& message, RowFacts& facts,
                                std::vector<uint64_t>& hashes) const {
  ++facts.messages[static_cast<size_t>(message.role)];
  hashes.push_back(static_cast<uint64_t>(message.role));
  note_text(message.content, facts, hashes);
}

void FactsEncoder::note_text(std::string_view text, RowFacts& facts,
                             std::vector<uint64_t>& hashes) const {
  facts.letters += count_letters(text);
  const std::vector<uint64_t> units = text_units(text);
  // A text of signs only is compared to the letter.
  hashes.push_back(units.empty() ? xxh64(text) : xxh64(as_bytes(units)));
  std::vector<uint64_t> grams = gram_hashes(units, gram_size_);
  facts.grams += static_cast<int64_t>(grams.size());
  if (index_ == nullptr) {
    facts.gram_hashes.insert(facts.gram_hashes.end(), grams.begin(), grams.end());
    return;
  }
  for (const uint64_t gram : grams) {
    const int64_t number = index_->find(gram);
    if (number >= 0) facts.grams_in_test.push_back(number);
  }
}

}  // namespace llama2zh
