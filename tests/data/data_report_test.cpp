#include "llama2zh/data/data_report.h"

#include <gtest/gtest.h>

#include "data/row_facts.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/prepare.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using testing::shared_tokenizer;

TEST(TextUnits, AreCharactersAndWords) {
  EXPECT_EQ(text_units("你好, World").size(), 3U);
  EXPECT_EQ(text_units("ＷＯＲＬＤ 你 好"), text_units("world你好。"));
  EXPECT_NE(text_units("world 1"), text_units("world1"));
  EXPECT_TRUE(text_units("，。 !").empty());
}

TEST(GramIndex, FindsWhatItHolds) {
  const auto grams = gram_hashes(text_units("一二三四五六七八九十一二三四"), 13);
  ASSERT_EQ(grams.size(), 2U);
  const GramIndex index(grams);
  EXPECT_EQ(index.size(), 2U);
  EXPECT_GE(index.find(grams[0]), 0);
  EXPECT_EQ(index.find(grams[0] + 1), -1);
  EXPECT_EQ(GramIndex().find(1), -1);
}

std::string dialogue(const std::string& question, const std::string& answer) {
  return R"({"instruction": ")" + question + R"(", "output": ")" + answer + "\"}\n";
}

class Report : public ::testing::Test {
 protected:
  void SetUp() override {
    LLAMA2ZH_NEED_SHARED_DATA();
    config_.threads = 2;
    config_.block_size = 256;
  }
  DataReport report(RowKind kind) const {
    const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
    return report_data(config_, kind, tokenizer, {});
  }
  testing::TemporaryFolder folder_;
  DataConfig config_;
};

TEST_F(Report, CountsDialoguesAndTheirProblems) {
  std::string long_answer;
  for (int i = 0; i < 500; ++i) long_answer += "好";
  const auto train = folder_.write(
      "train.jsonl", dialogue("你好", "您好！") + dialogue("你好", "您好") + "{\"x\": 1}\n" +
                         dialogue("What is it?", "A cat.") + dialogue("长吗", long_answer));
  config_.train_files = {train.string()};
  const SetReport keep = report(RowKind::kSft).train;
  EXPECT_EQ(keep.rows, 4);
  EXPECT_EQ(keep.bad.count, 1);
  ASSERT_EQ(keep.bad.places.size(), 1U);
  EXPECT_NE(keep.bad.places[0].find("train.jsonl:3"), std::string::npos);
  EXPECT_EQ(keep.duplicates.count, 1);
  EXPECT_EQ(keep.duplicates.places[0], train.string() + ":2");
  EXPECT_EQ(keep.cut, 1);
  EXPECT_GT(keep.tokens_cut, 0);
  EXPECT_EQ(keep.messages[static_cast<size_t>(Role::kUser)], 4);
  EXPECT_EQ(keep.messages[static_cast<size_t>(Role::kAssistant)], 4);
  EXPECT_EQ(keep.languages[0], 3);
  EXPECT_EQ(keep.languages[1], 1);
  EXPECT_GT(keep.supervised, 0);
  EXPECT_LT(keep.supervised, keep.tokens);
  EXPECT_GT(keep.length_at(1), 256);

  config_.overlong = "drop_row";
  const SetReport drop = report(RowKind::kSft).train;
  EXPECT_EQ(drop.dropped.count, 1);
  EXPECT_EQ(drop.dropped.places[0], train.string() + ":5");
  EXPECT_EQ(drop.template_errors.count, 0);
  EXPECT_EQ(drop.cut, 0);
  EXPECT_EQ(drop.rows, 3);
  EXPECT_EQ(drop.tokens_cut, keep.length_at(1));
}

TEST(SetReport, QuantilesAreLengthsOfRows) {
  SetReport set;
  EXPECT_EQ(set.length_at(0.5), 0);
  set.lengths = {{1, 50}, {2, 40}, {10, 9}, {100, 1}};
  EXPECT_EQ(set.length_at(0), 1);
  EXPECT_EQ(set.length_at(0.5), 1);
  EXPECT_EQ(set.length_at(0.6), 2);
  EXPECT_EQ(set.length_at(0.9), 2);
  EXPECT_EQ(set.length_at(0.95), 10);
  EXPECT_EQ(set.length_at(0.99), 10);
  EXPECT_EQ(set.length_at(1), 100);
}

// Rows that training leaves out are neither counted nor a fault of the data.
TEST_F(Report, LeavesOutWhatDeduplicateDrops) {
  const std::string rows = dialogue("你好", "您好！") + dialogue("你好", "您好！") +
                           dialogue("What is it?", "A cat.") + dialogue("你好", "您好！");
  config_.train_files = {folder_.write("train.jsonl", rows + dialogue("你好", "您好")).string()};
  EXPECT_EQ(report(RowKind::kSft).train.duplicates.count, 3);
  config_.deduplicate = true;
  for (const double held_out : {0.0, 0.5}) {
    config_.validation_split = held_out;
    const DataReport got = report(RowKind::kSft);
    const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
    int64_t rows_used = got.train.rows, deduplicated = got.train.deduplicated,
            tokens = got.train.tokens;
    if (held_out > 0) {
      ASSERT_EQ(got.test.size(), 1U);
      rows_used += got.test[0].rows;
      deduplicated += got.test[0].deduplicated;
      tokens += got.test[0].tokens;
    } else {
      const NamedRows used = load_datasets(config_, RowKind::kSft, tokenizer).train;
      EXPECT_EQ(tokens, used.rows.total_tokens());
      EXPECT_EQ(got.train.deduplicated, used.counts.duplicates);
      // The same to a reader, though not to the letter: that one stays.
      EXPECT_EQ(got.train.duplicates.count, 1);
      EXPECT_EQ(got.train.duplicates.places[0], config_.train_files[0] + ":5");
    }
    EXPECT_EQ(rows_used, 3) << held_out;
    EXPECT_EQ(deduplicated, 2) << held_out;
  }
}

// The counts are those of what training reads.
TEST_F(Report, AgreesWithTheRowsOfTraining) {
  const auto file = testing::shared_data() / "sft" / "sharegpt_zh_300.jsonl";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  config_.train_files = {file.string()};
  config_.block_size = 512;
  config_.skip_bad_rows = true;
  const SetReport train = report(RowKind::kSft).train;
  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  const NamedRows rows = load_datasets(config_, RowKind::kSft, tokenizer).train;
  EXPECT_EQ(train.rows, rows.counts.rows);
  EXPECT_EQ(train.tokens, rows.rows.total_tokens());
  EXPECT_EQ(train.supervised, rows.rows.total_supervised());
  EXPECT_EQ(train.bad.count + train.template_errors.count, rows.counts.bad);
  EXPECT_EQ(train.cut + train.dropped.count, rows.counts.overlong);
}

TEST_F(Report, FindsTestRowsInTraining) {
  const std::string known = "今天天气很好我们一起去公园散步吧",
                    other = "昨天下雨所以大家都留在家里看书";
  const auto train = folder_.write(
      "train.jsonl", "{\"text\": \"" + known + "。\"}\n" + "{\"text\": \"前面" + other + "\"}\n");
  const auto test = folder_.write(
      "test.jsonl", "{\"text\": \"" + known + "\"}\n{\"text\": \"" + other +
                        "\"}\n{\"text\": \"完全没有见过的一句话它也足够长可以比较\"}\n"
                        "{\"text\": \"短\"}\n");
  config_.train_files = {train.string()};
  config_.validation_files = {test.string()};
  const DataReport result = report(RowKind::kPretrain);
  ASSERT_EQ(result.test.size(), 1U);
  const SetReport& set = result.test[0];
  EXPECT_EQ(set.rows, 4);
  ASSERT_EQ(set.in_training.count, 1);
  EXPECT_EQ(set.in_training.places[0], test.string() + ":1");
  EXPECT_EQ(set.overlapping.count, 2);
  EXPECT_EQ(set.too_short_for_grams, 1);
}

TEST_F(Report, LeavesDuplicatesOutWhereAsked) {
  config_.train_files = {
      folder_.write("train.jsonl", dialogue("你好", "您好！") + dialogue("你好", "您好")).string()};
  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  const DataReport result = report_data(config_, RowKind::kSft, tokenizer, {.duplicates = false});
  EXPECT_EQ(result.train.rows, 2);
  EXPECT_EQ(result.train.duplicates.count, 0);
  EXPECT_FALSE(result.train.looked_for_duplicates);
  EXPECT_EQ(report(RowKind::kSft).train.duplicates.count, 1);
}

// What training holds out of its own files is a test set, and the rest is what it trains on.
TEST_F(Report, TakesHeldOutRowsForATestSet) {
  std::string rows;
  for (int i = 0; i < 60; ++i)
    rows += cat("{\"text\": \"第", i, "号文件讲的是第", i * i, "个完全不同的题目\"}\n");
  // Every text twice, the second time with a sign more: another row, the same to a reader.
  std::string twice = rows;
  for (int i = 0; i < 60; ++i)
    twice += cat("{\"text\": \"第", i, "号文件讲的是第", i * i, "个完全不同的题目！\"}\n");
  config_.train_files = {folder_.write("train.jsonl", twice).string()};
  config_.validation_split = 0.3;
  config_.txt_documents = "lines";
  const DataReport result = report(RowKind::kPretrain);
  ASSERT_EQ(result.test.size(), 1U);
  const SetReport& held_out = result.test[0];
  EXPECT_EQ(held_out.name, "validation");
  EXPECT_GT(held_out.in_training.count, 5);

  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  const Datasets sets = load_datasets(config_, RowKind::kPretrain, tokenizer);
  EXPECT_EQ(result.train.rows, sets.train.counts.rows);
  EXPECT_EQ(held_out.rows, sets.validation[0].counts.rows);
  EXPECT_EQ(held_out.tokens, sets.validation[0].rows.total_tokens());
  EXPECT_EQ(result.train.rows + held_out.rows, 120);
}

TEST_F(Report, ReadsStoresByTheirTokens) {
  std::string rows;
  for (int i = 0; i < 40; ++i)
    rows += cat("{\"text\": \"第", i, "号文件讲的是第", i * i, "个完全不同的题目\"}\n");
  config_.train_files = {folder_.write("train.jsonl", rows).string()};
  const DataReport raw = report(RowKind::kPretrain);
  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  PrepareOptions prepared;
  prepared.files = config_.train_files;
  prepared.output = folder_.path() / "store";
  ASSERT_EQ(prepare_store(config_, RowKind::kPretrain, tokenizer, prepared),
            PrepareOutcome::kFinished);
  config_.validation_files = config_.train_files;
  config_.train_files = {prepared.output.string()};
  const DataReport read = report(RowKind::kPretrain);
  EXPECT_EQ(read.train.rows, 40);
  EXPECT_EQ(read.train.tokens, raw.train.tokens);
  EXPECT_EQ(read.train.lengths, raw.train.lengths);
  EXPECT_EQ(read.train.letters.han, raw.train.letters.han);
  ASSERT_EQ(read.test.size(), 1U);
  EXPECT_EQ(read.test[0].in_training.count, 40);
}

}  // namespace
}  // namespace llama2zh
