// A line's encoding is unchanged if it consists of the same pieces; ids need not agree. Pieces are
// compared as the vocabulary spells them, so that a sentencepiece model and a byte-level BPE, which
// spell differently, differ nearly everywhere.
#include "llama2zh/tokenizer/tokenizer_comparison.h"

#include <algorithm>

#include "llama2zh/tokenizer/character_tables.h"
#include "llama2zh/tokenizer/vocabulary.h"

namespace llama2zh {
namespace {

std::vector<TokenId> find_in_first(const Tokenizer& tokenizer, const Tokenizer& first) {
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    ids.push_back(first.id_of(tokenizer.piece(id)).value_or(-1));
  return ids;
}

// The pieces of a tokenizer that can and can't come out of their own text, and those never used.
void judge_pieces(const Tokenizer& tokenizer, const std::vector<int64_t>& uses,
                  const Tokenizer& first, const std::vector<TokenId>& ids_in_first,
                  TokenizerMeasure& measure) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!is_text_piece(tokenizer, id)) continue;
    ++measure.text_pieces;
    if (uses[static_cast<size_t>(id)] == 0) measure.dead.push_back(tokenizer.piece(id));
    if (encodes_to_itself(tokenizer, id)) continue;
    measure.unreachable.push_back(tokenizer.piece(id));
    const TokenId old = ids_in_first[static_cast<size_t>(id)];
    if (&tokenizer != &first && old >= 0 && encodes_to_itself(first, old))
      measure.changed.displaced.push_back(tokenizer.piece(id));
  }
}

}  // namespace

TokenCount TokenizerMeasure::total(Language language) const {
  TokenCount sum;
  for (const CountsByLanguage& domain : domains) sum += domain[static_cast<size_t>(language)];
  return sum;
}
TokenCount TokenizerMeasure::total() const {
  TokenCount sum;
  for (size_t i = 0; i < kLanguageNames.size(); ++i) sum += total(static_cast<Language>(i));
  return sum;
}

TokenizerComparison::TokenizerComparison(std::vector<const Tokenizer*> tokenizers)
    : tokenizers_(std::move(tokenizers)), measures_(tokenizers_.size()) {
  for (const Tokenizer* tokenizer : tokenizers_) {
    counters_.emplace_back(*tokenizer);
    ids_in_first_.push_back(find_in_first(*tokenizer, *tokenizers_[0]));
    english_uses_.emplace_back(static_cast<size_t>(tokenizer->vocab_size()));
  }
}

void TokenizerComparison::begin_domain() {
  for (TokenizerMeasure& measure : measures_) measure.domains.emplace_back();
}

void TokenizerComparison::add_line(std::string_view line) {
  TokenCount first = counters_[0].count(line);  // refuses what is not UTF-8
  const Language language = language_of(count_letters(line));
  for (size_t i = 0; i < tokenizers_.size(); ++i) {
    measures_[i].domains.back()[static_cast<size_t>(language)] +=
        i == 0 ? first : counters_[i].count(line);
    if (i > 0) compare_with_first(i, language);
  }
}

void TokenizerComparison::compare_with_first(size_t index, Language language) {
  ChangedEncodings& changed = measures_[index].changed;
  const std::vector<TokenId>& ids = counters_[index].ids();
  const std::vector<TokenId>& of_first = counters_[0].ids();
  const std::vector<TokenId>& in_first = ids_in_first_[index];
  const auto slot = static_cast<size_t>(language);
  ++changed.lines[slot];
  const bool same = std::equal(
      ids.begin(), ids.end(), of_first.begin(), of_first.end(),
      [&](TokenId id, TokenId other) { return in_first[static_cast<size_t>(id)] == other; });
  if (same) return;
  ++changed.changed[slot];
  if (language != Language::kEnglish) return;
  for (const TokenId id : ids) {
    if (in_first[static_cast<size_t>(id)] < 0) ++english_uses_[index][static_cast<size_t>(id)];
  }
}

std::vector<TokenizerMeasure> TokenizerComparison::finish() const {
  std::vector<TokenizerMeasure> result = measures_;
  for (size_t i = 0; i < tokenizers_.size(); ++i) {
    for (const CharacterTable& table : character_tables())
      result[i].coverage.push_back(covered_characters(table, *tokenizers_[i]));
    judge_pieces(*tokenizers_[i], counters_[i].uses(), *tokenizers_[0], ids_in_first_[i],
                 result[i]);
    auto& pieces = result[i].changed.new_in_english;
    for (size_t id = 0; id < english_uses_[i].size(); ++id) {
      if (english_uses_[i][id] > 0)
        pieces.emplace_back(tokenizers_[i]->piece(static_cast<TokenId>(id)), english_uses_[i][id]);
    }
    std::stable_sort(pieces.begin(), pieces.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
  }
  return result;
}

}  // namespace llama2zh
