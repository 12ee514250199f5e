// A sentencepiece model from a list of pieces; the fields are in model_proto.cpp. Further ones here:
// TrainerSpec {4 vocab_size, 40 unk_id, 41 bos_id, 42 eos_id, 43 pad_id, 45 unk_piece};
// NormalizerSpec {1 name, 2 precompiled_charsmap, 5 escape_whitespaces}.
#include "llama2zh/base/wire.h"
#include "llama2zh/tokenizer/model_proto.h"

namespace llama2zh {
namespace {

constexpr uint64_t kNoPiece = ~uint64_t{0};  // -1 as protobuf writes an int32

uint64_t id_of_piece(const std::vector<SentencePiece>& pieces, std::string_view text) {
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].text == text) return id;
  }
  return kNoPiece;
}

std::string trainer_spec(const std::vector<SentencePiece>& pieces, const ModelSpecs& specs) {
  std::string unknown = "<unk>";
  for (const SentencePiece& piece : pieces) {
    if (piece.type == PieceType::kUnknown) unknown = piece.text;
  }
  WireWriter out;
  out.varint(3, static_cast<uint64_t>(specs.model_type));
  out.varint(4, pieces.size());
  out.varint(24, specs.whitespace_as_suffix ? 1 : 0);
  out.varint(35, specs.byte_fallback ? 1 : 0);
  out.varint(40, id_of_piece(pieces, unknown));
  out.varint(41, id_of_piece(pieces, specs.bos_piece));
  out.varint(42, id_of_piece(pieces, specs.eos_piece));
  out.varint(43, id_of_piece(pieces, specs.pad_piece));
  out.bytes(44, specs.unk_surface);
  out.bytes(45, unknown);
  out.bytes(46, specs.bos_piece);
  out.bytes(47, specs.eos_piece);
  out.bytes(48, specs.pad_piece);
  return out.str();
}

std::string normalizer_spec(const ModelSpecs& specs) {
  WireWriter out;
  out.bytes(1, "identity");
  out.bytes(2, "");
  out.varint(3, specs.add_dummy_prefix ? 1 : 0);
  out.varint(4, specs.remove_extra_whitespaces ? 1 : 0);
  out.varint(5, 1);
  return out.str();
}

}  // namespace

ModelProto ModelProto::make(const std::vector<SentencePiece>& pieces, const ModelSpecs& specs,
                            std::string_view where) {
  WireWriter out;
  for (const SentencePiece& piece : pieces) {
    WireWriter field;
    field.bytes(1, piece.text);
    field.fixed32(2, piece.score);
    if (piece.type != PieceType::kNormal) field.varint(3, static_cast<uint64_t>(piece.type));
    out.bytes(1, field.str());
  }
  out.bytes(2, trainer_spec(pieces, specs));
  out.bytes(3, normalizer_spec(specs));
  return parse(out.str(), where);
}

}  // namespace llama2zh
