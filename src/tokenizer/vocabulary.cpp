// Growing a vocabulary as ymcui's merge_tokenizers.py does it, and what that does to encoding. A new piece's score 0 is
// above every score of LLaMA's BPE, so new pieces merge first, left to right: some old pieces can no longer come out, and a
// new piece that no pair of pieces joins to never does.
#include "llama2zh/tokenizer/vocabulary.h"

#include <unordered_set>

#include "llama2zh/base/utf8.h"

namespace llama2zh {
bool is_text_piece(const Tokenizer& tokenizer, TokenId id) {
  if (tokenizer.is_special(id) || tokenizer.is_byte(id)) return false;
  return id < tokenizer.model_size() && is_utf8(tokenizer.bytes_of(id));
}

// sentencepiece takes "▁" in a text for a space, so that a piece is its own text.
bool encodes_to_itself(const Tokenizer& tokenizer, TokenId id) {
  if (!is_text_piece(tokenizer, id)) return false;
  const bool own_text = tokenizer.kind() == TokenizerKind::kSentencepiece;
  const std::vector<TokenId> ids =
      tokenizer.encode_continuation(own_text ? tokenizer.piece(id) : tokenizer.bytes_of(id));
  return ids.size() == 1 && ids[0] == id;
}

VocabularyMerge merge_vocabulary(const ModelProto& base, const ModelProto& extension) {
  VocabularyMerge merge{base, {}, {}};
  std::unordered_set<std::string_view> known;
  for (const SentencePiece& piece : base.pieces()) known.insert(piece.text);
  for (const SentencePiece& piece : extension.pieces()) {
    if (known.contains(piece.text)) {
      merge.duplicates.push_back(piece.text);
    } else {
      merge.added.push_back(piece.text);
      merge.model.append(piece.text);
    }
  }
  return merge;
}

VocabularyReport report_merge(const Tokenizer& base, const Tokenizer& merged,
                              const VocabularyMerge& merge) {
  VocabularyReport report;
  report.added = static_cast<int64_t>(merge.added.size());
  report.duplicates = static_cast<int64_t>(merge.duplicates.size());
  report.merged_size = static_cast<int64_t>(merge.model.pieces().size());
  report.base_size = report.merged_size - report.added;
  report.extension_size = report.added + report.duplicates;
  const auto& pieces = merge.model.pieces();
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].type != PieceType::kNormal) continue;
    const auto token = static_cast<TokenId>(id);
    if (encodes_to_itself(merged, token)) continue;
    if (token >= report.base_size) {
      report.unreachable.push_back(pieces[id].text);
    } else if (encodes_to_itself(base, token)) {
      report.displaced.push_back(pieces[id].text);
    }
  }
  return report;
}

std::vector<std::vector<TokenId>> sub_pieces(const Tokenizer& base,
                                             const std::vector<std::string>& added) {
  std::vector<std::vector<TokenId>> result;
  result.reserve(added.size());
  for (const std::string& piece : added) {
    std::vector<TokenId> ids = base.encode_continuation(piece);
    if (ids.empty())
      ids = {*base.unk_id()};  // a model that drops spaces, and a piece of nothing else
    result.push_back(std::move(ids));
  }
  return result;
}

}  // namespace llama2zh
