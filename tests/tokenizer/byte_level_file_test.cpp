#include "tokenizer/byte_level_file.h"

#include <gmock/gmock.h>

#include "llama2zh/base/random.h"
#include "tokenizer/byte_level_models.h"
#include "tokenizer/merge_table.h"

namespace llama2zh {
namespace {

using testing::byte_level_json;
using testing::expect_error;

class ByteLevelFileTest : public ::testing::Test {
 protected:
  void refused(const char* part) {
    expect_error(ErrorKind::kFormat, part, [&] { ByteLevelFile::parse(whole_.dump(), "f.json"); });
    whole_ = byte_level_json();
  }
  json& model() { return whole_["model"]; }
  json& steps() {
    whole_["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", json::array()}};
    return whole_["pre_tokenizer"]["pretokenizers"];
  }
  json whole_ = byte_level_json();
};

TEST_F(ByteLevelFileTest, TakesBothFormsOfMerges) {
  const ByteLevelFile pairs = ByteLevelFile::parse(whole_.dump(), "f.json");
  for (json& merge : model()["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  const ByteLevelFile texts = ByteLevelFile::parse(whole_.dump(), "f.json");
  ASSERT_EQ(texts.merges.size(), pairs.merges.size());
  ASSERT_GT(texts.merges.size(), 400U);
  for (size_t i = 0; i < texts.merges.size(); ++i) {
    EXPECT_EQ(texts.merges[i].left, pairs.merges[i].left);
    EXPECT_EQ(texts.merges[i].result, pairs.merges[i].result);
  }
}

TEST_F(ByteLevelFileTest, RefusesOtherModelsByName) {
  model()["type"] = "Unigram";
  refused("\"model\" is a Unigram, expected a byte-level BPE");
  model()["byte_fallback"] = true;
  refused("Add the tokenizer.model of the model it was made from");
  whole_.erase("model");
  refused("\"model\" is missing");
  model()["end_of_word_suffix"] = "</w>";
  refused("\"end_of_word_suffix\" is not supported");
  model()["continuing_subword_prefix"] = "##";
  refused("\"continuing_subword_prefix\" is not supported");
  model()["dropout"] = 0.1;
  refused("\"dropout\" is not supported");
  whole_["normalizer"] = {{"type", "Lowercase"}};
  refused("\"normalizer\" is \"Lowercase\", expected none or NFC");
  whole_["decoder"] = {{"type", "Metaspace"}};
  refused("\"decoder\" is Metaspace, expected ByteLevel");
  whole_["decoder"] = nullptr;
  refused("\"decoder\" is null");
  whole_["post_processor"] = {{"type", "RobertaProcessing"}};
  refused("\"post_processor\" is \"RobertaProcessing\"");
  model()["vocab"]["QQ"] = model()["vocab"]["Q"];
  model()["vocab"].erase("Q");
  refused("has no symbol for the character 'Q'");
}

TEST_F(ByteLevelFileTest, RefusesIdsThatCannotBe) {
  model()["vocab"]["new"] = 5;
  refused("gives the id 5 to");
  model()["vocab"]["new"] = 4000000;
  refused("gives \"new\" the id 4000000, but the file has only");
  model()["vocab"]["new"] = -1;
  refused("the id -1, which is none");
  model()["vocab"]["new"] = "5";
  refused("which is none");
  model()["vocab"]["new"] = 1.5;
  refused("which is none");
  model()["vocab"]["new"] = 18446744073709551615u;
  refused("which is none");
  whole_["added_tokens"].back()["id"] = 704;
  refused("has only 704 tokens");  // those that added_tokens lists again count
  whole_["added_tokens"].back()["id"] = 701;
  refused("has no token of id 700, but one of id 701");
  whole_["added_tokens"][0]["id"] = 3;
  refused("gives \"<|endoftext|>\" the id 3, but 0 is its id already");
  whole_["added_tokens"].back().erase("content");
  refused("without \"content\"");
  whole_["added_tokens"].back()["single_word"] = true;
  refused("single_word");
  model()["vocab"][""] = 699;
  refused("has an empty token");
  model()["vocab"] = json::array();
  refused("\"vocab\" is not an object");
}

TEST_F(ByteLevelFileTest, RefusesMergesOfWhatIsNoToken) {
  model()["merges"][3] = {"zzz", "a"};
  refused("\"merges\" element 3: \"zzz\" is no token");
  model()["merges"][3] = {"Q", "Q"};
  refused("element 3: \"QQ\" is no token");
  for (const json& bad : {json("ab"), json("a b c"), json(" a"), json("a "), json(7), json{"a"},
                          json{"a", 1}, json{"", "a"}}) {
    model()["merges"][3] = bad;
    refused("\"merges\" element 3 is ");
  }
  model()["merges"] = nullptr;
  refused("\"merges\" is not a list");
  model()["unk_token"] = "<none>";
  refused("\"unk_token\" element 0: \"<none>\" is no token");
  const ByteLevelFile file = ByteLevelFile::parse(whole_.dump(), "f.json");
  auto merges = file.merges;
  merges.push_back(merges.front());
  expect_error(ErrorKind::kFormat, "twice, as elements 0 and",
               [&] { MergeTable(merges, file.tokens, "f.json"); });
}

TEST_F(ByteLevelFileTest, RefusesPreTokenizersByName) {
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", "a"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  steps() = {{{"type", "Metaspace"}}, byte_level};
  refused("pre_tokenizer: \"Metaspace\" is not known here");
  steps() = {split};
  refused("ByteLevel is not its last step");
  steps() = {byte_level, split};
  refused("ByteLevel is not its last step");
  steps() = json::array();
  refused("Sequence without");
  steps() = {split, {{"type", "ByteLevel"}, {"add_prefix_space", true}}};
  refused("add_prefix_space behind other steps");
  steps() = {split, {{"type", "ByteLevel"}, {"add_prefix_space", 1}}};
  refused("\"add_prefix_space\" is not true or false");
  for (const char* behavior : {"Removed", "MergedWithPrevious", "Contiguous"}) {
    steps() = {split, byte_level};
    whole_["pre_tokenizer"]["pretokenizers"][0]["behavior"] = behavior;
    refused(behavior);
  }
  whole_["pre_tokenizer"] = nullptr;
  refused("pre_tokenizer: it is missing");
  steps() = {7, byte_level};
  refused("a step is not an object");
}

// The simplest form of the rule: the pair listed first, the leftmost of equals, again and again.
std::vector<TokenId> merged_slowly(const ByteLevelFile& file, std::vector<TokenId> ids) {
  for (;;) {
    size_t best = file.merges.size(), at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (size_t rank = 0; rank < best; ++rank) {
        const auto& merge = file.merges[rank];
        if (merge.left != ids[i] || merge.right != ids[i + 1]) continue;
        best = rank;
        at = i;
      }
    }
    if (best == file.merges.size()) return ids;
    ids[at] = file.merges[best].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST_F(ByteLevelFileTest, ShortAndLongWordsMergeByOneRule) {
  const ByteLevelFile file = ByteLevelFile::parse(whole_.dump(), "f.json");
  const MergeTable table(file.merges, file.tokens, "f.json");
  Random random(11);
  for (int round = 0; round < 300; ++round) {
    std::vector<TokenId> ids;
    for (uint64_t length = 1 + random.below(90); length > 0; --length) {
      const auto byte = static_cast<uint8_t>("theouswkarn"[random.below(11)]);
      ids.push_back(file.byte_ids[byte]);
    }
    const std::vector<TokenId> expected = merged_slowly(file, ids);
    table.apply(ids);
    ASSERT_EQ(ids, expected) << round;
  }
}

TEST_F(ByteLevelFileTest, AWordOfAMegabyteTakesNoSquare) {
  const Tokenizer tokenizer = testing::byte_level_tokenizer();
  std::string word;
  while (word.size() < 1000000) word += "thehouseofthecat";
  const auto ids = tokenizer.encode(word);
  EXPECT_LE(ids.size(), word.size() / 2);
  EXPECT_EQ(tokenizer.decode(ids), word);
}

}  // namespace
}  // namespace llama2zh
