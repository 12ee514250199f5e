#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

// The values are sentencepiece's own and stand in files.
enum class PieceType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

// What a sentencepiece model says about itself beside its pieces; the values are the proto's defaults until parsed.
struct ModelSpecs {
  int64_t model_type = 1;  // 1 unigram, 2 BPE, 3 word, 4 char
  bool byte_fallback = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool whitespace_as_suffix = false;
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string pad_piece = "<pad>";
  std::string unk_surface = " \u2047 ";
};

// A sentencepiece ModelProto, as far as the vocabulary is concerned. Everything else in it (trainer and normalizer spec,
// unknown fields) is kept byte for byte, so that parse + serialize of an unchanged model gives the same file.
class ModelProto {
 public:
  // Throws kFormat: truncated or malformed fields, missing specs, no pieces, pieces that are empty, not UTF-8, with a NUL or listed twice, an unknown
  // type, not exactly one unknown piece, non-finite scores, byte pieces that are not <0xNN> (or not all 256 with byte fallback), and a
  // character map that points outside itself. (Debian's sentencepiece 0.1.97 reads bad memory on crafted files or ends the process: all
  // models come through here first.)
  static ModelProto parse(std::string_view bytes, std::string_view where);
  static ModelProto read(const std::filesystem::path& path);
  // A model of those pieces whose text is not normalized, as LLaMA's are; checked as parse() does.
  static ModelProto make(const std::vector<SentencePiece>& pieces, const ModelSpecs& specs,
                         std::string_view where);

  const std::vector<SentencePiece>& pieces() const { return pieces_; }
  const ModelSpecs& specs() const { return specs_; }
  bool is_bpe() const { return specs_.model_type == 2; }
  bool has_byte_fallback() const { return specs_.byte_fallback; }
  // Appends a NORMAL piece, written without a type, as the published merged models hold it. The caller sees to it that it is new.
  void append(std::string_view text, float score = 0);
  std::string serialize() const { return head_ + tail_; }
  // The same model without the dummy prefix and without self tests: encodes text as it stands inside a sentence.
  std::string serialize_without_dummy_prefix() const;

 private:
  std::vector<SentencePiece> pieces_;
  ModelSpecs specs_;
  std::string head_;  // raw fields up to the last piece, as read
  std::string tail_;  // raw fields behind it
};

}  // namespace llama2zh
