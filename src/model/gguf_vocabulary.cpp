// Vocabularies in GGUF: docs/gguf.md of ggml, "Tokenizer"; llama.cpp's llama-vocab.cpp. Token types
// are sentencepiece's numbers. In tokens of the user's own a space is a space, in others "▁".
#include "gguf_vocabulary.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/gguf.h"

namespace llama2zh {
namespace {

constexpr const char* kModelKey = "tokenizer.ggml.model";
constexpr const char* kTokensKey = "tokenizer.ggml.tokens";
constexpr const char* kScoresKey = "tokenizer.ggml.scores";
constexpr const char* kTypesKey = "tokenizer.ggml.token_type";
constexpr const char* kTemplateKey = "tokenizer.chat_template";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

ordered_json token_entry_of(const std::string& text, bool special) {
  return {{"content", text}, {"lstrip", false},      {"normalized", false},
          {"rstrip", false}, {"single_word", false}, {"special", special}};
}

bool is_added_type(PieceType type) {
  return type == PieceType::kControl || type == PieceType::kUnknown ||
         type == PieceType::kUserDefined;
}

TokenizerFiles sentencepiece_files(const GgufMetadata& data, std::string& note) {
  GgufVocabulary vocabulary = read_gguf_vocabulary(data, true);
  const std::vector<double> scores = data.numbers(kScoresKey);
  if (scores.size() != vocabulary.tokens.size()) {
    data.fail(kScoresKey, cat("expected one for each of ", vocabulary.tokens.size(), " tokens"));
  }
  std::vector<SentencePiece> pieces;
  bool has_bytes = false;
  for (size_t id = 0; id < scores.size(); ++id) {
    std::string& text = vocabulary.tokens[id];
    if (vocabulary.types[id] == PieceType::kUserDefined) text = replaced(text, " ", kVisibleSpace);
    pieces.push_back({text, static_cast<float>(scores[id]), vocabulary.types[id]});
    has_bytes |= vocabulary.types[id] == PieceType::kByte;
  }
  if (!vocabulary.bos || !vocabulary.eos) {
    data.fail(cat("tokenizer.ggml.", vocabulary.bos ? "eos" : "bos", "_token_id"), "it is missing");
  }
  ModelSpecs specs{
      .model_type = 2,
      .byte_fallback = has_bytes,
      .add_dummy_prefix = data.flag("tokenizer.ggml.add_space_prefix", true),
      .remove_extra_whitespaces = data.flag("tokenizer.ggml.remove_extra_whitespaces", false),
      .bos_piece = vocabulary.tokens[*vocabulary.bos],
      .eos_piece = vocabulary.tokens[*vocabulary.eos]};
  if (vocabulary.padding) specs.pad_piece = vocabulary.tokens[*vocabulary.padding];
  const ModelProto proto = ModelProto::make(pieces, specs, cat(data.where(), ": ", kTokensKey));
  ordered_json config = gguf_tokenizer_config(vocabulary, "LlamaTokenizer");
  config["legacy"] = true;  // llama.cpp puts a space behind special tokens, as that does
  if (data.flag("tokenizer.ggml.add_eos_token", false)) {
    note = "the file asks for </s> behind every prompt, which no tokenizer here adds";
  }
  return {
      data.where(),
      {{"tokenizer.model", proto.serialize()}, {"tokenizer_config.json", config.dump(2) + "\n"}}};
}

TokenizerFiles byte_level_files(const GgufMetadata& data, std::string& note) {
  const GgufVocabulary vocabulary = read_gguf_vocabulary(data, false);
  const auto tokenizer = gguf_bpe_json(data, vocabulary);
  if (!tokenizer) {
    note = cat(
        "the vocabulary is a byte-level BPE that cuts texts in the way of tokenizer.ggml.pre \"",
        data.text("tokenizer.ggml.pre", "default"), "\", expected one of ",
        join(gguf_word_cuts(), ", "), "; take tokenizer.json from the model's original folder");
    return {data.where(), {}};
  }
  const ordered_json config = gguf_tokenizer_config(vocabulary, "PreTrainedTokenizerFast");
  return {data.where(),
          {{"tokenizer.json", tokenizer->dump() + "\n"},
           {"tokenizer_config.json", config.dump(2) + "\n"}}};
}

}  // namespace

GgufVocabulary read_gguf_vocabulary(const GgufMetadata& data, bool add_bos_by_default) {
  GgufVocabulary result;
  result.tokens = data.texts(kTokensKey);
  const auto size = static_cast<int64_t>(result.tokens.size());
  for (const int64_t type : data.integers(kTypesKey, 1, 6)) {
    result.types.push_back(static_cast<PieceType>(type));
  }
  if (result.types.size() != result.tokens.size()) {
    data.fail(kTypesKey, cat("expected one for each of ", size, " tokens"));
  }
  const auto id = [&](const char* name) -> std::optional<size_t> {
    const int64_t found = data.integer(cat("tokenizer.ggml.", name, "_token_id"), 0, size - 1, -1);
    return found < 0 ? std::nullopt : std::optional(static_cast<size_t>(found));
  };
  result.bos = id("bos");
  result.eos = id("eos");
  result.unknown = id("unknown");
  result.padding = id("padding");
  result.add_bos = data.flag("tokenizer.ggml.add_bos_token", add_bos_by_default);
  result.chat_template = data.text(kTemplateKey, "");
  return result;
}

ordered_json gguf_tokenizer_config(const GgufVocabulary& vocabulary,
                                   std::string_view tokenizer_class) {
  ordered_json decoder = ordered_json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!is_added_type(vocabulary.types[id])) continue;
    decoder[std::to_string(id)] =
        token_entry_of(vocabulary.tokens[id], vocabulary.types[id] != PieceType::kUserDefined);
  }
  ordered_json config = {{"add_bos_token", vocabulary.add_bos},
                         {"add_eos_token", false},
                         {"added_tokens_decoder", decoder}};
  const auto put = [&](const char* key, const std::optional<size_t>& id) {
    if (id) config[key] = vocabulary.tokens[*id];
  };
  put("bos_token", vocabulary.bos);
  put("eos_token", vocabulary.eos);
  put("unk_token", vocabulary.unknown);
  put("pad_token", vocabulary.padding);
  config["clean_up_tokenization_spaces"] = false;
  config["tokenizer_class"] = tokenizer_class;
  if (!vocabulary.chat_template.empty()) config["chat_template"] = vocabulary.chat_template;
  return config;
}

namespace {

void check_token_count(const GgufFile& file) {
  const GgufValue* const tokens = file.metadata().find(kTokensKey);
  const TensorInfo& embedding = file.require("token_embd.weight");
  if (tokens == nullptr || embedding.shape.empty()) return;
  if (static_cast<int64_t>(tokens->size()) == embedding.shape.front()) return;
  file.metadata().fail(kTokensKey, cat("expected ", embedding.shape.front(),
                                       " of them, one for each row of token_embd.weight"));
}

}  // namespace

TokenizerFiles gguf_tokenizer_files(const GgufFile& file, std::string& note) {
  const GgufMetadata& data = file.metadata();
  note.clear();
  const std::string kind = data.text(kModelKey, "");
  if (kind.empty() || kind == "none" || kind == "no_vocab") {
    note = "the file holds no tokenizer";
    return {data.where(), {}};
  }
  check_token_count(file);
  if (kind == "llama") return sentencepiece_files(data, note);
  if (kind == "gpt2") return byte_level_files(data, note);
  note = cat("the vocabulary's kind, ", kModelKey, ", is \"", kind, "\", expected llama or gpt2");
  return {data.where(), {}};
}

}  // namespace llama2zh
