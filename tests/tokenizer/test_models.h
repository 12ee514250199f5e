#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "llama2zh/base/file.h"
#include "llama2zh/base/wire.h"
#include "llama2zh/tokenizer/vocabulary.h"
#include "tokenizer/shared_data.h"

namespace llama2zh::testing {

inline std::string piece_field(std::string_view text, float score = 0, int64_t type = 0) {
  WireWriter piece;
  piece.bytes(1, text);
  piece.fixed32(2, score);
  if (type != 0) piece.varint(3, static_cast<uint64_t>(type));
  WireWriter field;
  field.bytes(1, piece.str());
  return field.str();
}

inline std::string byte_piece_text(int value) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[value / 16] + kDigits[value % 16] + ">";
}

// The specs of LLaMA's model: BPE, byte fallback, dummy prefix, spaces kept.
inline std::string llama_specs() {
  WireWriter trainer, normalizer, fields;
  trainer.varint(3, 2);
  trainer.varint(35, 1);
  normalizer.bytes(1, "identity");
  normalizer.varint(3, 1);
  normalizer.varint(4, 0);
  fields.bytes(2, trainer.str());
  fields.bytes(3, normalizer.str());
  return fields.str();
}

// A plain unigram model: every field at its default.
inline std::string unigram_specs() {
  WireWriter fields;
  fields.bytes(2, {});
  fields.bytes(3, {});
  return fields.str();
}

// <unk> <s> </s>, the 256 bytes (ids 3 to 258).
inline std::string first_pieces() {
  std::string bytes =
      piece_field("<unk>", 0, 2) + piece_field("<s>", 0, 3) + piece_field("</s>", 0, 3);
  for (int i = 0; i < 256; ++i) bytes += piece_field(byte_piece_text(i), 0, 6);
  return bytes;
}

// 259 first pieces, then these with falling scores: "▁", "a", "b", "▁a", "ab", "▁ab" (259 to 264).
inline std::string tiny_model_bytes() {
  std::string bytes = first_pieces();
  float score = 0;
  for (const char* text : {"▁", "a", "b"}) bytes += piece_field(text, score -= 1);
  score = 0;
  for (const char* text : {"▁a", "ab", "▁ab"}) bytes += piece_field(text, score -= 1);
  return bytes + llama_specs();
}

class TinyModel {
 public:
  TinyModel() : path_(folder_.write("tokenizer.model", tiny_model_bytes())) {}
  const std::filesystem::path& path() const { return path_; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
  std::filesystem::path path_;
};

// The published 49,953 pieces, merged from the shared data.
class MergedModel {
 public:
  MergedModel() : path_(folder_.path() / "tokenizer.model") {
    const auto merge =
        merge_vocabulary(ModelProto::read(shared_tokenizer("llama2_tokenizer.model")),
                         ModelProto::read(shared_tokenizer("chinese_sp.model")));
    write_file_atomic(path_, merge.model.serialize());
  }
  const std::filesystem::path& path() const { return path_; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
  std::filesystem::path path_;
};

}  // namespace llama2zh::testing
