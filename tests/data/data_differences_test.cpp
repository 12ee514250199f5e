// What a resumed run is told about data that are not those of the checkpoint.
#include "llama2zh/data/data_differences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama2zh/data/training_data.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DataDifferences : public ::testing::Test {
 protected:
  void SetUp() override { config_.cache_dir = (folder_.path() / "cache").string(); }
  std::string text(const std::string& name, int rows) const {
    std::string all;
    for (int i = 0; i < rows; ++i)
      all += json{{"text", std::string(3 + i % 50, 'a')}}.dump() + "\n";
    return folder_.write(name, all).string();
  }
  ordered_json opened() const {
    return open_training_data(config_, RowKind::kPretrain, tokenizer_).description();
  }

  testing::TinyModel model_;
  testing::TemporaryFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::load(model_.path());
  DataConfig config_;
};

TEST_F(DataDifferences, FilesAndOptions) {
  const std::string a = text("a.jsonl", 40), b = text("b.jsonl", 30);
  config_.train_files = {a, b};
  const ordered_json before = opened();
  const std::string c = text("c.jsonl", 10);
  text("b.jsonl", 31);
  config_.train_files = {b, c};
  config_.min_characters = 5;
  EXPECT_THAT(data_differences(before, opened()),
              ElementsAre(a + " was removed", HasSubstr(b + " has "), c + " was added",
                          "data.min_characters: 0 in the checkpoint, 5 now"));
  EXPECT_THAT(data_differences(ordered_json(), before), IsEmpty());
}

TEST_F(DataDifferences, OrderAndMovedFiles) {
  const std::string a = text("a.jsonl", 40), b = text("b.jsonl", 30);
  config_.train_files = {a, b};
  const ordered_json before = opened();
  config_.train_files = {b, a};
  EXPECT_THAT(data_differences(before, opened()), ElementsAre("the files have another order"));
  // The same rows elsewhere: the fingerprint says that nothing changed, and nobody asks.
  config_.train_files = {text("moved/a.jsonl", 40), text("moved/b.jsonl", 30)};
  EXPECT_EQ(opened()[0]["fingerprint"], before[0]["fingerprint"]);
}

TEST_F(DataDifferences, SharesAndSources) {
  const std::string a = text("a.jsonl", 40), b = text("b.jsonl", 30), c = text("c.jsonl", 20);
  config_.mixture = {{a, 3.0, {}, {}}, {b, 1.0, {}, {}}};
  const ordered_json before = opened();
  config_.mixture = {{a, 2.0, {}, {}}, {c, 1.0, {}, {}}};
  EXPECT_THAT(
      data_differences(before, opened()),
      ElementsAre("data.mixture " + a + " weight: 3.0 in the checkpoint, 2.0 now",
                  "data.mixture " + b + " was removed", "data.mixture " + c + " was added"));
  config_.mixture = {{b, 1.0, {}, {}}, {a, 3.0, {}, {}}};
  EXPECT_THAT(data_differences(before, opened()), ElementsAre("the sources have another order"));
  config_.mixture = {};
  config_.train_files = {a};
  EXPECT_THAT(data_differences(before, opened()),
              ::testing::Contains("data.mixture became data.train_files"));
}

TEST_F(DataDifferences, LongListsEnd) {
  ordered_json before = {{{"path", ""}, {"fingerprint", "1"}, {"stores", ordered_json::array()}}};
  ordered_json now = before, store = {{"files", ordered_json::array()}};
  for (int i = 0; i < 30; ++i)
    store["files"].push_back({{"path", std::to_string(i)}, {"bytes", i}, {"changed", 1}});
  now[0]["fingerprint"] = "2";
  now[0]["stores"].push_back(store);
  const std::vector<std::string> lines = data_differences(before, now);
  ASSERT_EQ(lines.size(), 21u);
  EXPECT_EQ(lines.back(), "and 10 more differences");
}

}  // namespace
}  // namespace llama2zh
