// sentencepiece_model.proto (proto2): ModelProto {1 pieces*, 2 trainer_spec, 3 normalizer_spec, 4 self_test_data,
// 5 denormalizer_spec}; SentencePiece {1 piece, 2 score (float), 3 type}; TrainerSpec {3 model_type, 24
// treat_whitespace_as_suffix, 35 byte_fallback, 44 unk_surface, 46 bos_piece, 47 eos_piece, 48 pad_piece}; NormalizerSpec
// {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces}. A piece's id is its position.
// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
#include "llama2zh/tokenizer/model_proto.h"

#include <array>
#include <cmath>
#include <unordered_set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/base/wire.h"
#include "tokenizer/char_map.h"

namespace llama2zh {
namespace {

constexpr uint32_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3, kSelfTest = 4,
                   kDenormalizerSpec = 5;
constexpr uint32_t kAddDummyPrefix = 3;
constexpr uint64_t kMaxModelBytes = uint64_t{1} << 26;
constexpr std::string_view kRemedy = "Fetch the file again, or name a sentencepiece .model file";

void expect_type(const WireField& field, WireType type, std::string_view what,
                 std::string_view where) {
  if (field.type == type) return;
  fail_format(where, cat(what, " has wire type ", int(field.type), ", expected ", int(type)),
              kRemedy);
}

SentencePiece parse_piece(std::string_view bytes, std::string_view where, size_t id) {
  SentencePiece piece;
  WireReader reader(bytes, where);
  for (WireField field; reader.next(field);) {
    if (field.number == 1) {
      expect_type(field, WireType::kBytes, "a piece's text", where);
      piece.text = field.bytes;
    } else if (field.number == 2) {
      expect_type(field, WireType::kFixed32, "a piece's score", where);
      piece.score = field.as_float();
    } else if (field.number == 3) {
      expect_type(field, WireType::kVarint, "a piece's type", where);
      if (field.value < 1 || field.value > 6) {
        fail_format(where, cat("piece ", id, " has type ", field.value, ", expected 1 to 6"),
                    kRemedy);
      }
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  if (piece.text.empty()) fail_format(where, cat("piece ", id, " is empty"), kRemedy);
  if (!is_utf8(piece.text) || piece.text.find('\0') != std::string::npos) {
    fail_format(where, cat("piece ", id, " is not UTF-8 text"), kRemedy);
  }
  if (!std::isfinite(piece.score))
    fail_format(where, cat("the score of piece ", id, " is not finite"), kRemedy);
  return piece;
}

void parse_trainer_spec(std::string_view bytes, std::string_view where, ModelSpecs& specs) {
  WireReader reader(bytes, where);
  for (WireField field; reader.next(field);) {
    const auto number = [&] {
      expect_type(field, WireType::kVarint, cat("trainer_spec field ", field.number), where);
      return field.value;
    };
    const auto text = [&] {
      expect_type(field, WireType::kBytes, cat("trainer_spec field ", field.number), where);
      if (!is_utf8(field.bytes))
        fail_format(where, cat("trainer_spec field ", field.number, " is not UTF-8"), kRemedy);
      return std::string(field.bytes);
    };
    switch (field.number) {
      case 3:
        specs.model_type = static_cast<int64_t>(number());
        break;
      case 24:
        specs.whitespace_as_suffix = number() != 0;
        break;
      case 35:
        specs.byte_fallback = number() != 0;
        break;
      case 44:
        specs.unk_surface = text();
        break;
      case 46:
        specs.bos_piece = text();
        break;
      case 47:
        specs.eos_piece = text();
        break;
      case 48:
        specs.pad_piece = text();
        break;
      default:
        break;
    }
  }
  if (specs.model_type < 1 || specs.model_type > 4) {
    fail_format(where, cat("model_type is ", specs.model_type, ", expected 1 (unigram) to 4"),
                kRemedy);
  }
}

// `specs` is null for the denormalizer, of which only the character map matters.
void parse_normalizer_spec(std::string_view bytes, std::string_view where, ModelSpecs* specs) {
  WireReader reader(bytes, where);
  for (WireField field; reader.next(field);) {
    if (field.number == 2) {
      expect_type(field, WireType::kBytes, "precompiled_charsmap", where);
      check_char_map(field.bytes, where);
    } else if (field.number == kAddDummyPrefix || field.number == 4) {
      expect_type(field, WireType::kVarint, cat("normalizer_spec field ", field.number), where);
      if (specs == nullptr) continue;
      (field.number == kAddDummyPrefix ? specs->add_dummy_prefix
                                       : specs->remove_extra_whitespaces) = field.value != 0;
    }
  }
}

// The value of "<0xNN>", else -1.
int byte_value(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const size_t high = kDigits.find(text[3]), low = kDigits.find(text[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high * 16 + low);
}

// What holds between pieces. sentencepiece ends the process over some of it.
void check_pieces(const std::vector<SentencePiece>& pieces, const ModelSpecs& specs,
                  std::string_view where) {
  if (pieces.empty())
    fail_format(where, "it holds no pieces: this is not a sentencepiece model", kRemedy);
  std::unordered_set<std::string_view> texts;
  texts.reserve(pieces.size());
  std::array<bool, 256> bytes{};
  size_t unknown = 0, byte_pieces = 0;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const SentencePiece& piece = pieces[id];
    if (!texts.insert(piece.text).second) {
      fail_format(where, cat("piece ", id, " (\"", piece.text, "\") is listed twice"), kRemedy);
    }
    if (piece.type == PieceType::kUnknown) ++unknown;
    if (piece.type != PieceType::kByte) continue;
    const int value = byte_value(piece.text);
    if (value < 0)
      fail_format(where, cat("byte piece ", id, " is \"", piece.text, "\", expected <0xNN>"),
                  kRemedy);
    bytes[static_cast<size_t>(value)] = true;
    ++byte_pieces;
  }
  if (unknown != 1)
    fail_format(where, cat("it has ", unknown, " unknown pieces, expected exactly 1 (<unk>)"),
                kRemedy);
  if (byte_pieces != (specs.byte_fallback ? 256 : 0)) {
    fail_format(
        where,
        cat("it has ", byte_pieces, " byte pieces, expected ", specs.byte_fallback ? 256 : 0,
            " as byte_fallback is ", specs.byte_fallback ? "on" : "off"),
        kRemedy);
  }
}

}  // namespace

ModelProto ModelProto::parse(std::string_view bytes, std::string_view where) {
  ModelProto model;
  size_t head = 0;
  bool seen[6] = {};
  WireReader reader(bytes, where);
  for (WireField field; reader.next(field);) {
    if (field.number < kPieces || field.number > kDenormalizerSpec) continue;
    expect_type(field, WireType::kBytes, cat("field ", field.number), where);
    if (field.number == kPieces) {
      model.pieces_.push_back(parse_piece(field.bytes, where, model.pieces_.size()));
      head = static_cast<size_t>(field.raw.data() - bytes.data()) + field.raw.size();
      continue;
    }
    // protobuf would merge the two; no writer makes such a file.
    if (seen[field.number])
      fail_format(where, cat("field ", field.number, " stands there twice"), kRemedy);
    seen[field.number] = true;
    if (field.number == kTrainerSpec) parse_trainer_spec(field.bytes, where, model.specs_);
    if (field.number == kNormalizerSpec) parse_normalizer_spec(field.bytes, where, &model.specs_);
    if (field.number == kDenormalizerSpec) parse_normalizer_spec(field.bytes, where, nullptr);
  }
  // Writers always give both; a file cut off between fields would pass for one with defaults.
  if (!model.pieces_.empty() && !(seen[kTrainerSpec] && seen[kNormalizerSpec])) {
    fail_format(where, "it ends before the trainer_spec and normalizer_spec: the file is cut off",
                kRemedy);
  }
  check_pieces(model.pieces_, model.specs_, where);
  model.head_ = bytes.substr(0, head);
  model.tail_ = bytes.substr(head);
  return model;
}

ModelProto ModelProto::read(const std::filesystem::path& path) {
  return parse(read_file(path, kMaxModelBytes), path.string());
}

void ModelProto::append(std::string_view text, float score) {
  WireWriter piece;
  piece.bytes(1, text);
  piece.fixed32(2, score);
  WireWriter field;
  field.bytes(kPieces, piece.str());
  head_ += field.str();
  pieces_.push_back({std::string(text), score, PieceType::kNormal});
}

std::string ModelProto::serialize_without_dummy_prefix() const {
  WireWriter out;
  bool seen_normalizer = false;
  const std::string whole = serialize();
  WireReader reader(whole, "model");
  for (WireField field; reader.next(field);) {
    if (field.number == kSelfTest) continue;
    if (field.number != kNormalizerSpec) {
      out.raw(field.raw);
      continue;
    }
    WireWriter spec;
    WireReader inner(field.bytes, "normalizer_spec");
    for (WireField part; inner.next(part);) {
      if (part.number != kAddDummyPrefix) spec.raw(part.raw);
    }
    spec.varint(kAddDummyPrefix, 0);
    out.bytes(kNormalizerSpec, spec.str());
    seen_normalizer = true;
  }
  if (!seen_normalizer) {
    WireWriter spec;
    spec.varint(kAddDummyPrefix, 0);
    out.bytes(kNormalizerSpec, spec.str());
  }
  return out.str();
}

}  // namespace llama2zh
