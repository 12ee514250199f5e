#include "llama2zh/tokenizer/vocabulary.h"

#include <gmock/gmock.h>

#include "llama2zh/base/hash.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::shared_tokenizer;
using Ids = std::vector<TokenId>;

class PublishedMerge : public ::testing::Test {
 protected:
  void SetUp() override {
    LLAMA2ZH_NEED_SHARED_DATA();
    merge_ = merge_vocabulary(ModelProto::read(shared_tokenizer("llama2_tokenizer.model")),
                              ModelProto::read(shared_tokenizer("chinese_sp.model")));
    path_ = folder_.write("tokenizer.model", merge_.model.serialize());
  }
  testing::TemporaryFolder folder_;
  VocabularyMerge merge_;
  std::filesystem::path path_;
};

TEST_F(PublishedMerge, IsThePublishedFile) {
  EXPECT_EQ(sha256_file(path_), "e2676d4ca29ca1750f6ff203328d73b189321dc5776ceede037cbd36541d70c0");
  EXPECT_EQ(merge_.model.pieces().size(), 49953U);
  EXPECT_EQ(merge_.added.size(), 17953U);
  EXPECT_EQ(merge_.duplicates.size(), 2047U);
  EXPECT_EQ(merge_.added.front(), "但");
  EXPECT_EQ(merge_.added[4], "10");
  EXPECT_EQ(merge_.added.back(), "儡");
  EXPECT_THAT(merge_.duplicates,
              ::testing::IsSupersetOf({"<unk>", "<s>", "</s>", ",", "▁", "。", "的"}));
}

TEST_F(PublishedMerge, ReportsWhatCannotComeOut) {
  const Tokenizer base = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  const Tokenizer merged = Tokenizer::load(path_);
  const VocabularyReport report = report_merge(base, merged, merge_);
  EXPECT_EQ(report.base_size, 32000);
  EXPECT_EQ(report.extension_size, 20000);
  EXPECT_EQ(report.merged_size, 49953);
  EXPECT_EQ(report.added, 17953);
  EXPECT_EQ(report.duplicates, 2047);
  EXPECT_EQ(report.unreachable.size(), 345U);
  EXPECT_THAT(report.unreachable, ::testing::IsSupersetOf({"越来越", "西班牙", "中华人民共和国"}));
  EXPECT_EQ(report.displaced.size(), 194U);
  EXPECT_THAT(report.displaced, ::testing::IsSupersetOf({"▁create", "control"}));
}

TEST_F(PublishedMerge, SubPiecesAreTheBaseIdsOfEachNewPiece) {
  const Tokenizer base = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  const auto subs = sub_pieces(base, merge_.added);
  ASSERT_EQ(subs.size(), merge_.added.size());
  for (size_t i = 0; i < subs.size(); ++i) {
    ASSERT_FALSE(subs[i].empty()) << merge_.added[i];
    std::string bytes;
    for (const TokenId id : subs[i]) bytes += base.bytes_of(id);
    std::string text = merge_.added[i];
    for (size_t at; (at = text.find("▁")) != std::string::npos;) text.replace(at, 3, " ");
    ASSERT_EQ(bytes, text);
  }
  // A piece of known characters, one of bytes only, and one that starts a word.
  EXPECT_EQ(sub_pieces(base, {"中国", "儡", "▁br", "br"}),
            (std::vector<Ids>{{30275, 30356}, {232, 135, 164}, {1506}, {1182}}));
}

TEST(VocabularyMerge, KeepsTheBaseAndTheOrder) {
  const ModelProto base = ModelProto::parse(testing::tiny_model_bytes(), "base");
  const ModelProto extension = ModelProto::parse(
      testing::piece_field("<unk>", 0, 2) + testing::piece_field("z", -3) +
          testing::piece_field("a", -1) + testing::piece_field("c", -2) + testing::unigram_specs(),
      "extension");
  const VocabularyMerge merge = merge_vocabulary(base, extension);
  EXPECT_EQ(merge.added, (std::vector<std::string>{"z", "c"}));
  EXPECT_EQ(merge.duplicates, (std::vector<std::string>{"<unk>", "a"}));
  const std::string expected =
      testing::tiny_model_bytes().substr(
          0, testing::tiny_model_bytes().size() - testing::llama_specs().size()) +
      testing::piece_field("z", 0) + testing::piece_field("c", 0) + testing::llama_specs();
  EXPECT_EQ(merge.model.serialize(), expected);
  EXPECT_EQ(ModelProto::parse(expected, "merged").pieces().size(), base.pieces().size() + 2);
}

}  // namespace
}  // namespace llama2zh
