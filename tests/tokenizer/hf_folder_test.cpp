#include <gmock/gmock.h>

#include "llama2zh/base/json.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using Ids = std::vector<TokenId>;

// A folder with the tiny model (265 pieces) and the JSON files that a test gives it.
class HfFolder : public ::testing::Test {
 protected:
  HfFolder() { folder_.write("tokenizer.model", testing::tiny_model_bytes()); }
  void config(std::string_view text) { folder_.write("tokenizer_config.json", text); }
  void map(std::string_view text) { folder_.write("special_tokens_map.json", text); }
  void added(std::string_view text) { folder_.write("added_tokens.json", text); }
  void model_config(std::string_view text) { folder_.write("config.json", text); }
  Tokenizer load() const { return Tokenizer::load(folder_.path()); }
  void refused(std::string_view part) const {
    expect_error(ErrorKind::kFormat, part, [this] { load(); });
  }
  testing::TemporaryFolder folder_;
};

TEST_F(HfFolder, AloneHasTheModelsOwnIds) {
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.vocab_size(), 265);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_FALSE(tokenizer.pad_id());
  EXPECT_TRUE(tokenizer.legacy());
  EXPECT_TRUE(tokenizer.add_bos());
  EXPECT_EQ(tokenizer.hf_chat_template(), "");
  EXPECT_EQ(tokenizer.path(), folder_.path() / "tokenizer.model");
}

TEST_F(HfFolder, TakesTextsAndAddedTokenObjects) {
  config(
      R"({"bos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": false}, "eos_token": "<s>",
             "add_bos_token": false, "legacy": false, "chat_template": "T", "llama2zh_template": "plain",
             "model_max_length": 1000000000000000019884624838656})");
  map(R"({"bos_token": "a", "eos_token": "b", "pad_token": {"content": "<unk>"}})");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.bos_id(), 2);  // tokenizer_config.json comes first
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.pad_id(), 0);
  EXPECT_FALSE(tokenizer.legacy());
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_EQ(tokenizer.hf_chat_template(), "T");
  EXPECT_EQ(tokenizer.template_name(), "plain");
}

TEST_F(HfFolder, SpecialIdsFollowTheirPrecedence) {
  model_config(R"({"bos_token_id": 260, "eos_token_id": [261, 2], "pad_token_id": -1})");
  EXPECT_EQ(load().bos_id(), 260);
  EXPECT_EQ(load().eos_id(), 261);
  EXPECT_FALSE(load().pad_id());
  map(R"({"bos_token": "▁"})");
  EXPECT_EQ(load().bos_id(), 259);
  config(R"({"bos_token": "<s>", "eos_token": null})");
  EXPECT_EQ(load().bos_id(), 1);
  EXPECT_EQ(load().eos_id(), 261);
}

TEST_F(HfFolder, AddedTokensFollowOnTheModel) {
  added(R"({"<|im_end|>": 266, "[PAD]": 265, "词": 267})");
  config(
      R"({"added_tokens_decoder": {"0": {"content": "<unk>", "special": true}, "265": {"content": "[PAD]", "special": true}},
             "additional_special_tokens": ["<|im_end|>"]})");
  map(R"({"pad_token": "[PAD]"})");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.vocab_size(), 268);
  EXPECT_EQ(tokenizer.pad_id(), 265);
  EXPECT_EQ(tokenizer.piece(266), "<|im_end|>");
  EXPECT_EQ(tokenizer.id_of("[PAD]"), 265);
  EXPECT_TRUE(tokenizer.is_special(265) && tokenizer.is_special(266));
  EXPECT_FALSE(tokenizer.is_special(267));
  EXPECT_EQ(tokenizer.bytes_of(265), "");
  EXPECT_EQ(tokenizer.bytes_of(267), "词");
  EXPECT_EQ(tokenizer.encode_with_specials("a<|im_end|>词[PAD]"), (Ids{262, 266, 267, 265}));
  EXPECT_EQ(tokenizer.decode(Ids{262, 266, 267, 265}), "a词");
  EXPECT_EQ(tokenizer.decode(Ids{262, 266, 267, 265}, false), "a<|im_end|>词[PAD]");
  EXPECT_NE(tokenizer.encode("[PAD]"), Ids{265});  // plain text
}

TEST_F(HfFolder, TheAlpacaPadMakes49954) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const testing::MergedModel merged;
  merged.folder().write("added_tokens.json", R"({"[PAD]": 49953})");
  merged.folder().write("special_tokens_map.json", R"({"pad_token": "[PAD]"})");
  const Tokenizer tokenizer = Tokenizer::load(merged.folder().path());
  EXPECT_EQ(tokenizer.vocab_size(), 49954);
  EXPECT_EQ(tokenizer.pad_id(), 49953);
}

TEST_F(HfFolder, LegacyDecidesOnThePrefixBehindSpecialTokens) {
  LLAMA2ZH_NEED_SHARED_DATA();
  for (const bool legacy : {true, false}) {
    std::filesystem::copy_file(testing::shared_tokenizer("llama2_tokenizer.model"),
                               folder_.path() / "tokenizer.model",
                               std::filesystem::copy_options::overwrite_existing);
    config(legacy ? R"({"legacy": true})" : R"({"legacy": false})");
    const Tokenizer tokenizer = load();
    const Ids marked = tokenizer.encode_with_specials("<s>问：");
    EXPECT_EQ(marked, legacy ? (Ids{1, 29871, 31658, 30383}) : (Ids{1, 31658, 30383}));
    EXPECT_EQ(tokenizer.encode_with_specials("问："), (Ids{29871, 31658, 30383}));
    EXPECT_EQ(tokenizer.encode_with_specials("a</s>b<s>"),
              legacy ? (Ids{263, 2, 289, 1}) : (Ids{263, 2, 29890, 1}));
    EXPECT_EQ(tokenizer.encode_with_specials("<s></s>"), (Ids{1, 2}));
    EXPECT_EQ(tokenizer.encode_with_specials(""), Ids{});
  }
}

TEST_F(HfFolder, StripsWhereATokenSaysSo) {
  config(R"({"legacy": false, "added_tokens_decoder":
             {"265": {"content": "<m>", "lstrip": true, "rstrip": true, "special": true}, "266": {"content": "<m>a", "special": true}}})");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.encode_with_specials("a  <m> \n b"), (Ids{262, 265, 261}));
  EXPECT_EQ(tokenizer.encode_with_specials("<m>ab"), (Ids{266, 261}));  // the longest token wins
}

TEST_F(HfFolder, ChatTemplatesOfBothPlaces) {
  config(
      R"({"chat_template": [{"name": "tool_use", "template": "X"}, {"name": "default", "template": "Y"}]})");
  EXPECT_EQ(load().hf_chat_template(), "Y");
  folder_.write("chat_template.jinja", "Z");
  EXPECT_EQ(load().hf_chat_template(), "Z");
}

TEST_F(HfFolder, RefusesFoldersWithoutTheModel) {
  const testing::TemporaryFolder empty;
  expect_error(ErrorKind::kFormat, "neither a tokenizer.model nor a tokenizer.json",
               [&] { Tokenizer::load(empty.path()); });
  EXPECT_FALSE(has_tokenizer(empty.path()));
  // What transformers 5 saves of LLaMA's.
  empty.write("tokenizer.json", R"({"model": {"type": "BPE", "byte_fallback": true}})");
  EXPECT_FALSE(has_tokenizer(empty.path()));
  expect_error(ErrorKind::kFormat, "Add the tokenizer.model",
               [&] { Tokenizer::load(empty.path()); });
  expect_error(ErrorKind::kIo, "nowhere", [&] { Tokenizer::load(empty.path() / "nowhere"); });
}

TEST_F(HfFolder, RefusesContradictions) {
  const auto with_added = [this](std::string_view text, std::string_view part) {
    added(text);
    refused(part);
  };
  with_added(R"({"[PAD]": 264})", "265 pieces");
  with_added(R"({"[PAD]": 266})", "next free id is 265");
  with_added(R"({"[PAD]": 4000000000})", "[PAD]");
  with_added(R"({"[PAD]": -1})", "[PAD]");
  with_added(R"({"[PAD]": "x"})", "whole number");
  with_added(R"({"a": 265})", "already");
  with_added(R"({"p": 265, "q": 265})", "Make the two files agree");
  with_added(R"([1])", "JSON object");
  with_added(R"({"p": 265)", "added_tokens.json");
  added("{}");
  const auto with_config = [this](std::string_view text, std::string_view part) {
    config(text);
    refused(part);
  };
  with_config(R"({"pad_token": "[PAD]"})", "pad_token \"[PAD]\" is not in the vocabulary");
  with_config(R"({"bos_token": 5})", "bos_token");
  with_config(R"({"legacy": "yes"})", "legacy");
  with_config(R"({"added_tokens_decoder": {"x": {"content": "y"}}})", "not an id");
  with_config(R"({"added_tokens_decoder": {"265": {"content": "y", "single_word": true}}})",
              "single_word");
  with_config(R"({"chat_template": [{"name": "default"}]})", "chat_template");
  config("{}");
  model_config(R"({"eos_token_id": 265})");
  refused("eos_token_id 265 lies outside the vocabulary (265 tokens)");
}

TEST_F(HfFolder, SavesWhatItReads) {
  added(R"({"[PAD]": 265, "<|im_end|>": 266})");
  config(
      R"({"legacy": false, "add_bos_token": false, "pad_token": "[PAD]", "chat_template": "T", "model_max_length": 4096,
             "added_tokens_decoder": {"266": {"content": "<|im_end|>", "special": true, "rstrip": true}}})");
  const Tokenizer tokenizer = load();
  const auto copy = folder_.path() / "copy";
  tokenizer.save(copy, "");
  const Tokenizer again = Tokenizer::load(copy);
  EXPECT_EQ(again.fingerprint(), tokenizer.fingerprint());
  EXPECT_EQ(again.vocab_size(), 267);
  EXPECT_EQ(again.pad_id(), 265);
  EXPECT_FALSE(again.legacy() || again.add_bos());
  EXPECT_EQ(again.hf_chat_template(), "T");
  EXPECT_TRUE(again.is_special(265) && again.is_special(266));
  EXPECT_EQ(again.encode_with_specials("a<|im_end|> b"),
            tokenizer.encode_with_specials("a<|im_end|> b"));
  EXPECT_EQ(read_json_file(copy / "tokenizer_config.json")["model_max_length"], 4096);

  tokenizer.save(copy, "llama2_zh");
  const Tokenizer chat = Tokenizer::load(copy);
  EXPECT_EQ(chat.template_name(), "llama2_zh");
  EXPECT_EQ(ChatTemplate::detect(chat.hf_chat_template()), &ChatTemplate::get("llama2_zh"));
  expect_error(ErrorKind::kUsage, "llama2_zh", [&] { tokenizer.save(copy, "llama2_zhh"); });
}

}  // namespace
}  // namespace llama2zh
