// Growing a vocabulary as ymcui's merge_tokenizers.py does it, and what that does to encoding. A new piece's score 0 is
// above every score of LLaMA's BPE, so new pieces merge first, left to right: some old pieces can no longer come out, and a
// new piece that no pair of pieces joins to never does.
#include "llama2zh/tokenizer/vocabulary.h"

#include <unordered_set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

// sentencepiece takes "▁" in a text for a space, so that a piece is its own text.
bool encodes_to_itself(const Tokenizer& tokenizer, TokenId id) {
  const std::vector<TokenId> ids = tokenizer.encode_continuation(tokenizer.piece(id));
  return ids.size() == 1 && ids[0] == id;
}

}  // namespace

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

CompressionRow measure_compression(const Tokenizer& base, const Tokenizer& merged,
                                   const std::filesystem::path& text_file) {
  CompressionRow row;
  row.name = text_file.filename().string();
  LineReader reader(text_file);
  std::vector<TokenId> ids;
  const auto count = [&ids](const Tokenizer& tokenizer, const std::string& line) {
    ids.clear();
    tokenizer.encode_append(line, true, ids);
    return static_cast<int64_t>(ids.size());
  };
  for (std::string line; reader.next(line);) {
    if (!is_utf8(line))
      fail_data(reader.where(), "the line is not UTF-8", "Convert the file to UTF-8 first");
    row.characters += static_cast<int64_t>(utf8_length(line));
    row.base_tokens += count(base, line);
    row.merged_tokens += count(merged, line);
  }
  return row;
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
