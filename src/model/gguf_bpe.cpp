// Byte-level BPE as Hugging Face's tokenizer.json (github.com/huggingface/tokenizers). How texts are
// cut into words before merges is only named in GGUF (tokenizer.ggml.pre); the cuts for those names
// are llama.cpp's (llama-vocab.cpp), which took them from the models' own tokenizer.json.
#include "gguf_vocabulary.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr const char* kPreKey = "tokenizer.ggml.pre";

struct WordCut {
  const char* name;  // tokenizer.ggml.pre
  std::vector<const char*>
      patterns;                // of words, one after the other; none: ByteLevel's own, GPT-2's
  bool single_digits = false;  // each digit is a word of its own
  bool ignore_merges = false;  // a word that is a token is taken whole
};

constexpr const char* kLlama3Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen2Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";

// Where names share a cut, the first is written.
const std::vector<WordCut>& word_cuts() {
  static const std::vector<WordCut> cuts = {
      {"gpt-2", {}},
      {"smollm", {}, true},
      {"llama-bpe", {kLlama3Pattern}, false, true},
      {"llama3", {kLlama3Pattern}, false, true},
      {"llama-v3", {kLlama3Pattern}, false, true},
      {"qwen2", {kQwen2Pattern}},
      {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2Pattern, "\\p{N}+", "[0-9][0-9][0-9]"}}};
  return cuts;
}

const WordCut* word_cut_of(std::string_view name) {
  for (const WordCut& cut : word_cuts()) {
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
  for (const char* pattern : cut.patterns) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(cut.patterns.empty()));
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

// A pre_tokenizer without what makes no difference to the words: how Sequences nest, offsets, keys at
// their defaults.
void flatten(const json& value, std::vector<json>& steps) {
  if (!value.is_object()) return;
  if (value.value("type", "") == "Sequence") {
    for (const json& step : value.value("pretokenizers", json::array())) flatten(step, steps);
    return;
  }
  json step = value;
  step.erase("trim_offsets");
  if (step["type"] == "ByteLevel") {
    step["use_regex"] = value.value("use_regex", true);
    step["add_prefix_space"] = value.value("add_prefix_space", true);
  }
  if (step["type"] == "Split" && step.value("behavior", "") == "Isolated") step.erase("invert");
  steps.push_back(std::move(step));
}

std::vector<json> flattened(const json& value) {
  std::vector<json> steps;
  flatten(value, steps);
  return steps;
}

}  // namespace

std::optional<ordered_json> gguf_bpe_json(const GgufMetadata& data,
                                          const GgufVocabulary& vocabulary) {
  const WordCut* const words = word_cut_of(data.text(kPreKey, "default"));
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

std::vector<std::string> gguf_word_cuts() {
  std::vector<std::string> names;
  for (const WordCut& cut : word_cuts()) names.emplace_back(cut.name);
  return names;
}

GgufBpe gguf_bpe_of(const Tokenizer& tokenizer) {
  const std::string where = tokenizer.path().string();
  const json root = parse_json(*tokenizer.tokenizer_json(), where);
  const json& model = root["model"];
  const bool ignore_merges = model.value("ignore_merges", false);
  const std::vector<json> steps = flattened(root["pre_tokenizer"]);
  GgufBpe result;
  for (const WordCut& cut : word_cuts()) {
    const bool same = cut.ignore_merges == ignore_merges &&
                      steps == flattened(json::parse(pre_tokenizer(cut).dump()));
    if (same && result.word_cut.empty()) result.word_cut = cut.name;
  }
  if (result.word_cut.empty()) {
    fail_usage(where,
               cat("its pre_tokenizer cuts texts in a way that has no name in GGUF (", kPreKey,
                   ") here, known are those of ", join(gguf_word_cuts(), ", ")),
               "llama.cpp's convert_hf_to_gguf.py knows more of them");
  }
  for (const json& merge : model["merges"]) {
    result.merges.push_back(
        merge.is_string() ? merge.get<std::string>()
                          : cat(merge[0].get<std::string>(), " ", merge[1].get<std::string>()));
  }
  for (const json& token : root.value("added_tokens", json::array()))
    result.added.insert(token["id"].get<TokenId>());
  return result;
}

}  // namespace llama2zh
