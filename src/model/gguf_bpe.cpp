// Byte-level BPE as Hugging Face's tokenizer.json (github.com/huggingface/tokenizers). How texts are
// cut into words before merges is only named in GGUF (tokenizer.ggml.pre); the cuts for those names
// are llama.cpp's (llama-vocab.cpp), which took them from the models' own tokenizer.json.
#include <array>

#include "gguf_vocabulary.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

struct WordCut {
  const char* name;     // tokenizer.ggml.pre
  const char* pattern;  // of one word; null: ByteLevel's own, GPT-2's
  bool single_digits;   // each digit is a word of its own
  bool ignore_merges;   // a word that is a token is taken whole
};

constexpr const char* kLlama3Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen2Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

constexpr std::array<WordCut, 6> kWordCuts = {{{"gpt-2", nullptr, false, false},
                                               {"smollm", nullptr, true, false},
                                               {"llama-bpe", kLlama3Pattern, false, true},
                                               {"llama3", kLlama3Pattern, false, true},
                                               {"llama-v3", kLlama3Pattern, false, true},
                                               {"qwen2", kQwen2Pattern, false, false}}};

const WordCut* word_cut_of(std::string_view name) {
  for (const WordCut& cut : kWordCuts) {
    if (name == cut.name) return &cut;
  }
  return nullptr;
}

ordered_json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

ordered_json pre_tokenizer(const WordCut& cut) {
  ordered_json steps = ordered_json::array();
  if (cut.single_digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (cut.pattern != nullptr) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", cut.pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(cut.pattern == nullptr));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

ordered_json post_processor(const GgufVocabulary& vocabulary) {
  if (!vocabulary.add_bos || !vocabulary.bos) return byte_level(true);
  const std::string& bos = vocabulary.tokens[*vocabulary.bos];
  const auto special = [&](int type) -> ordered_json {
    return {{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
  };
  const auto text = [](const char* id, int type) -> ordered_json {
    return {{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", ordered_json::array({special(0), text("A", 0)})},
          {"pair", ordered_json::array({special(0), text("A", 0), special(1), text("B", 1)})},
          {"special_tokens",
           {{bos,
             {{"id", bos},
              {"ids", ordered_json::array({*vocabulary.bos})},
              {"tokens", ordered_json::array({bos})}}}}}};
}

ordered_json added_tokens_of(const GgufVocabulary& vocabulary) {
  ordered_json added = ordered_json::array();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const PieceType type = vocabulary.types[id];
    if (type != PieceType::kControl && type != PieceType::kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", vocabulary.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type == PieceType::kControl}});
  }
  return added;
}

// "left right": tokens hold no spaces in the byte-level alphabet.
ordered_json read_merges(const GgufMetadata& data) {
  constexpr const char* kKey = "tokenizer.ggml.merges";
  ordered_json merges = ordered_json::array();
  for (const std::string& merge : data.texts(kKey)) {
    const size_t space = merge.find(' ');
    const bool two = space != std::string::npos && space > 0 && space + 1 < merge.size() &&
                     merge.find(' ', space + 1) == std::string::npos;
    if (!two)
      data.fail(kKey, cat("element ", merges.size(), " is \"", merge,
                          "\", expected two tokens with a space between"));
    merges.push_back(ordered_json::array({merge.substr(0, space), merge.substr(space + 1)}));
  }
  return merges;
}

ordered_json vocabulary_ids(const GgufMetadata& data, const GgufVocabulary& vocabulary) {
  std::string text = "{";  // an object lookup per token would be quadratic
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    text += cat(id == 0 ? "" : ",", json(vocabulary.tokens[id]).dump(), ":", id);
  }
  return parse_ordered_json(text + "}", cat(data.where(), ": tokenizer.ggml.tokens"));
}

}  // namespace

std::optional<ordered_json> gguf_bpe_json(const GgufMetadata& data,
                                          const GgufVocabulary& vocabulary) {
  const WordCut* const words = word_cut_of(data.text("tokenizer.ggml.pre", "default"));
  if (words == nullptr) return std::nullopt;
  ordered_json model = {{"type", "BPE"},
                        {"dropout", nullptr},
                        {"unk_token", nullptr},
                        {"continuing_subword_prefix", nullptr},
                        {"end_of_word_suffix", nullptr},
                        {"fuse_unk", false},
                        {"byte_fallback", false},
                        {"ignore_merges", words->ignore_merges},
                        {"vocab", vocabulary_ids(data, vocabulary)},
                        {"merges", read_merges(data)}};
  return ordered_json{{"version", "1.0"},
                      {"truncation", nullptr},
                      {"padding", nullptr},
                      {"added_tokens", added_tokens_of(vocabulary)},
                      {"normalizer", nullptr},
                      {"pre_tokenizer", pre_tokenizer(*words)},
                      {"post_processor", post_processor(vocabulary)},
                      {"decoder", byte_level(true)},
                      {"model", std::move(model)}};
}

}  // namespace llama2zh
