// tokenizer.ggml.* of a tokenizer, as llama.cpp's convert_hf_to_gguf.py writes it.
#include "gguf_vocabulary.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/tokenizer/chat_template.h"

namespace llama2zh {
namespace {

constexpr float kAddedScore = -1000;  // of tokens that the sentencepiece model lacks

std::string with_plain_spaces(std::string text) {
  for (size_t at = 0; (at = text.find(kVisibleSpace, at)) != std::string::npos; ++at)
    text.replace(at, kVisibleSpace.size(), " ");
  return text;
}

PieceType exported_type(const Tokenizer& tokenizer, const std::vector<SentencePiece>& pieces,
                        size_t id) {
  const bool special = tokenizer.is_special(static_cast<TokenId>(id));
  if (id >= pieces.size()) return special ? PieceType::kControl : PieceType::kUserDefined;
  const PieceType type = pieces[id].type;
  const bool plain = type == PieceType::kNormal || type == PieceType::kUserDefined;
  return special && plain ? PieceType::kControl : type;
}

std::string exported_template(const Tokenizer& tokenizer) {
  if (!tokenizer.hf_chat_template().empty()) return tokenizer.hf_chat_template();
  if (tokenizer.template_name().empty()) return "";
  return ChatTemplate::get(tokenizer.template_name()).jinja();
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
  void add(std::string text, PieceType type) {
    texts.push_back(std::move(text));
    types.push_back(static_cast<int32_t>(type));
  }
  void put(const char* model, const std::string& pre, GgufMetadata& data) {
    data.set("tokenizer.ggml.model", GgufValue::text(model));
    data.set("tokenizer.ggml.pre", GgufValue::text(pre));
    data.set("tokenizer.ggml.tokens", GgufValue::texts(std::move(texts)));
    data.set("tokenizer.ggml.token_type", GgufValue::int32s(types));
  }
};

void put_sentencepiece(const Tokenizer& tokenizer, const ModelProto& proto, GgufMetadata& data) {
  Tokens tokens;
  std::vector<float> scores;
  for (size_t id = 0; id < static_cast<size_t>(tokenizer.vocab_size()); ++id) {
    const PieceType type = exported_type(tokenizer, proto.pieces(), id);
    const std::string& text = tokenizer.piece(static_cast<TokenId>(id));
    tokens.add(type == PieceType::kUserDefined ? with_plain_spaces(text) : text, type);
    scores.push_back(id < proto.pieces().size() ? proto.pieces()[id].score : kAddedScore);
  }
  tokens.put("llama", "default", data);
  data.set("tokenizer.ggml.scores", GgufValue::float32s(scores));
  data.set("tokenizer.ggml.add_space_prefix", GgufValue::boolean(proto.specs().add_dummy_prefix));
  if (proto.specs().remove_extra_whitespaces) {
    data.set("tokenizer.ggml.remove_extra_whitespaces", GgufValue::boolean(true));
  }
}

void put_byte_level(const Tokenizer& tokenizer, GgufMetadata& data) {
  const GgufBpe bpe = gguf_bpe_of(tokenizer);
  Tokens tokens;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    PieceType type = PieceType::kNormal;
    if (id >= tokenizer.model_size() || bpe.added.contains(id)) type = PieceType::kUserDefined;
    if (tokenizer.is_special(id)) type = PieceType::kControl;
    tokens.add(tokenizer.piece(id), type);
  }
  tokens.put("gpt2", bpe.word_cut, data);
  data.set("tokenizer.ggml.merges", GgufValue::texts(bpe.merges));
  data.set("tokenizer.ggml.add_space_prefix", GgufValue::boolean(false));
}

}  // namespace

void put_gguf_vocabulary(const Tokenizer& tokenizer, GgufMetadata& data) {
  if (const ModelProto* const proto = tokenizer.sentencepiece()) {
    put_sentencepiece(tokenizer, *proto, data);
  } else {
    put_byte_level(tokenizer, data);
  }
  const auto put_id = [&](const char* name, std::optional<TokenId> id) {
    if (!id) return;
    data.set(cat("tokenizer.ggml.", name, "_token_id"),
             GgufValue::uint32(static_cast<uint32_t>(*id)));
  };
  put_id("bos", tokenizer.bos_id());
  put_id("eos", tokenizer.eos_id());
  put_id("unknown", tokenizer.unk_id());
  put_id("padding", tokenizer.pad_id());
  data.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(tokenizer.add_bos()));
  data.set("tokenizer.ggml.add_eos_token", GgufValue::boolean(false));
  const std::string jinja = exported_template(tokenizer);
  if (!jinja.empty()) data.set("tokenizer.chat_template", GgufValue::text(jinja));
}

}  // namespace llama2zh
