#include "llama2zh/data/datasets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "data/row_encoder.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::expect_error;

// Rows over the tiny model: ids 3 + byte, then "▁" 259, "a" 260, "b" 261, "▁a" 262, "ab" 263,
// "▁ab" 264.
class DatasetsTest : public ::testing::Test {
 protected:
  Datasets load(RowKind kind) { return load_datasets(config_, kind, tokenizer_); }
  void train_on(const std::string& name, const std::string& text) {
    config_.train_files = {folder_.write(name, text).string()};
  }
  // Questions and answers of the template "plain": <s> "▁..." and "▁..." </s>.
  static std::string dialogue(const std::vector<std::string>& turns) {
    json row;
    for (size_t i = 0; i < turns.size(); ++i)
      row["conversations"].push_back({{"from", i % 2 == 0 ? "human" : "gpt"}, {"value", turns[i]}});
    return row.dump() + "\n";
  }
  static std::vector<int> ids(const TokenRows& rows, int64_t row) {
    return {rows.ids(row).begin(), rows.ids(row).end()};
  }
  static std::vector<int> mask(const TokenRows& rows, int64_t row) {
    return {rows.supervised(row).begin(), rows.supervised(row).end()};
  }

  testing::TinyModel model_;
  testing::TemporaryFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::load(model_.path());
  DataConfig config_;
};

TEST_F(DatasetsTest, PretrainingRowsByHand) {
  train_on("t.jsonl", "{\"input\": \"ab\"}\n{\"input\": \"a b\"}\n{\"input\": \" \\n\"}\n");
  const Datasets data = load(RowKind::kPretrain);
  ASSERT_EQ(data.train.rows.size(), 2);
  EXPECT_THAT(ids(data.train.rows, 0), ElementsAre(1, 264, 2));
  EXPECT_THAT(mask(data.train.rows, 0), ElementsAre(1, 1, 1));
  EXPECT_THAT(ids(data.train.rows, 1), ElementsAre(1, 262, 259, 261, 2));
  EXPECT_EQ(data.train.counts.rows, 2);
  EXPECT_EQ(data.train.counts.dropped, 1);  // the blank one
  EXPECT_EQ(data.train.counts.characters, 5);
  EXPECT_EQ(data.train.rows.total_supervised(), 8);
}

TEST_F(DatasetsTest, DialoguesByHand) {
  config_.chat_template = "plain";
  train_on("t.jsonl", dialogue({"a", "ab", "b", "a"}) + dialogue({"ab", "b", "never answered"}));
  const Datasets data = load(RowKind::kSft);
  EXPECT_THAT(ids(data.train.rows, 0), ElementsAre(1, 262, 264, 2, 259, 261, 262, 2));
  EXPECT_THAT(mask(data.train.rows, 0), ElementsAre(0, 0, 1, 1, 0, 0, 1, 1));
  EXPECT_THAT(ids(data.train.rows, 1), ElementsAre(1, 264, 259, 261, 2));
  EXPECT_THAT(mask(data.train.rows, 1), ElementsAre(0, 0, 1, 1, 1));
  EXPECT_EQ(data.train.counts.characters, 5 + 3);
}

TEST_F(DatasetsTest, PlainTextAmongDialoguesIsLearntWhole) {
  config_.chat_template = "plain";
  config_.block_size = 5;
  train_on("t.jsonl", dialogue({"a", "b"}) + "{\"text\": \"ab\"}\n{\"text\": \"a b a b a b\"}\n");
  const Datasets data = load(RowKind::kSft);
  ASSERT_EQ(data.train.rows.size(), 3);
  EXPECT_THAT(ids(data.train.rows, 1), ElementsAre(1, 264, 2));
  EXPECT_THAT(mask(data.train.rows, 1), ElementsAre(1, 1, 1));
  EXPECT_EQ(data.train.rows.ids(2).size(), 5);  // cut to one block
  EXPECT_EQ(data.train.counts.overlong, 1);

  config_.format = "conversations";
  expect_error(ErrorKind::kData, "neither \"conversations\" nor \"messages\"",
               [&] { load(RowKind::kSft); });
}

TEST_F(DatasetsTest, OverlongDialogues) {
  config_.chat_template = "plain";
  config_.block_size = 6;
  train_on("t.jsonl", dialogue({"a", "ab", "b", "a"}) + dialogue({"ab", "abababababab"}) +
                          dialogue({"ab", "b"}));
  Datasets data = load(RowKind::kSft);  // keep_last
  EXPECT_EQ(data.train.counts.overlong, 2);
  EXPECT_EQ(data.train.counts.dropped, 0);
  EXPECT_THAT(ids(data.train.rows, 0), ElementsAre(264, 2, 259, 261, 262, 2));
  EXPECT_THAT(mask(data.train.rows, 0), ElementsAre(1, 1, 0, 0, 1, 1));
  EXPECT_THAT(ids(data.train.rows, 1), ElementsAre(263, 263, 263, 263, 263, 2));

  config_.overlong = "drop_turns";
  data = load(RowKind::kSft);
  EXPECT_EQ(data.train.counts.overlong, 2);
  EXPECT_EQ(data.train.counts.dropped, 1);  // whose only turn is too long
  ASSERT_EQ(data.train.rows.size(), 2);
  EXPECT_THAT(ids(data.train.rows, 0), ElementsAre(1, 262, 264, 2));
  EXPECT_THAT(mask(data.train.rows, 0), ElementsAre(0, 0, 1, 1));

  config_.overlong = "drop_row";
  data = load(RowKind::kSft);
  EXPECT_EQ(data.train.counts.overlong, 2);
  EXPECT_EQ(data.train.counts.dropped, 2);
  ASSERT_EQ(data.train.rows.size(), 1);
  EXPECT_THAT(ids(data.train.rows, 0), ElementsAre(1, 264, 259, 261, 2));

  train_on("long.jsonl", dialogue({"ab", "abababababab"}));
  expect_error(ErrorKind::kData, "the data is empty", [&] { load(RowKind::kSft); });
}

TEST_F(DatasetsTest, SystemTextForRowsThatHaveNone) {
  config_.chat_template = "chatml";
  train_on("t.jsonl", R"({"query": "a", "response": "b"})"
                      "\n"
                      R"({"query": "a", "response": "b", "system": "b"})");
  config_.system = "ab";
  const Datasets data = load(RowKind::kSft);
  const Message user{Role::kUser, "a"}, answer{Role::kAssistant, "b"};
  const auto expected = [&](const char* system) {
    const std::vector<Message> messages = {{Role::kSystem, system}, user, answer};
    return ChatTemplate::get("chatml").encode(tokenizer_, messages).ids;
  };
  EXPECT_THAT(ids(data.train.rows, 0), ElementsAreArray(expected("ab")));
  EXPECT_THAT(ids(data.train.rows, 1), ElementsAreArray(expected("b")));
}

TEST_F(DatasetsTest, BadRowsStopOrAreCounted) {
  config_.chat_template = "plain";
  train_on("t.jsonl", dialogue({"a", "b"}) + "{\"query\": \n" + dialogue({"a"}) +
                          dialogue({"a", "ab"}) + "{\"query\": \"\xff\"}\n" +
                          R"({"conversations": [{"from": "human", "value": "a"},)"
                          R"( {"from": "observation", "value": "b"}]})");
  expect_error(ErrorKind::kData, "t.jsonl:2:11: not valid JSON", [&] { load(RowKind::kSft); });
  expect_error(ErrorKind::kData, "data.skip_bad_rows", [&] { load(RowKind::kSft); });
  config_.skip_bad_rows = true;
  const Datasets data = load(RowKind::kSft);
  EXPECT_EQ(data.train.counts.rows, 2);
  EXPECT_EQ(data.train.counts.bad, 4);
  EXPECT_THAT(data.train.counts.first_bad, ::testing::HasSubstr("t.jsonl:2:11: not valid JSON"));
  // An array with a bad element goes on behind it; one that is cut off does not.
  train_on(
      "t.json",
      R"([{"query": "a", "response": "b"}, {"query": a}, 3, {"query": "b", "response": "b"}])");
  EXPECT_EQ(load(RowKind::kSft).train.counts.bad, 2);
  train_on("cut.json", R"([{"query": "a", "response": "b"}, {"query": "a")");
  expect_error(ErrorKind::kFormat, "the file ends inside the array", [&] { load(RowKind::kSft); });
}

TEST_F(DatasetsTest, TheFirstBadRowIsReportedWhateverTheThreadsDo) {
  std::string rows;
  for (int i = 1; i <= 3000; ++i) rows += i % 700 == 0 ? "{bad}\n" : "{\"text\": \"ab\"}\n";
  train_on("t.jsonl", rows);
  expect_error(ErrorKind::kData, "t.jsonl:700:2:", [&] { load(RowKind::kPretrain); });
  config_.max_rows = 699;  // ends before it
  EXPECT_EQ(load(RowKind::kPretrain).train.rows.size(), 699);
}

TEST_F(DatasetsTest, EmptyDataIsAnError) {
  expect_error(ErrorKind::kUsage, "data.train_files", [&] { load(RowKind::kPretrain); });
  train_on("t.json", "[]");
  expect_error(ErrorKind::kData, "t.json: the data is empty", [&] { load(RowKind::kPretrain); });
  train_on("t.txt", "\n \n");
  expect_error(ErrorKind::kData, "1 blank", [&] { load(RowKind::kPretrain); });
  config_.skip_bad_rows = true;
  train_on("t.jsonl", "{\n{\n");
  expect_error(ErrorKind::kData, "2 bad, the first: ", [&] { load(RowKind::kPretrain); });
  train_on("t.txt", "ab");
  expect_error(ErrorKind::kUsage, "dialogues can't be read from plain text",
               [&] { load(RowKind::kSft); });
}

TEST_F(DatasetsTest, ValidationFilesAreNamedSets) {
  train_on("train.jsonl", "{\"text\": \"ab\"}");
  config_.validation_files = {folder_.write("zh.jsonl", "{\"text\": \"b\"}").string(),
                              folder_.write("en.txt", "a").string(),
                              folder_.write("more/zh.json", "[{\"text\": \"a\"}]").string()};
  config_.validation_split = 0.5;  // only without validation files
  const Datasets data = load(RowKind::kPretrain);
  ASSERT_EQ(data.validation.size(), 3u);
  EXPECT_EQ(data.validation[0].name, "zh");
  EXPECT_EQ(data.validation[1].name, "en");
  EXPECT_EQ(data.validation[2].name, "zh-2");
  EXPECT_EQ(data.train.rows.size(), 1);
}

TEST_F(DatasetsTest, ValidationSplitGoesByTheHashOfTheText) {
  std::vector<std::string> rows;
  for (int i = 0; i < 400; ++i)
    rows.push_back("{\"text\": \"" + std::string(static_cast<size_t>(i) + 1, 'a') + "\"}\n");
  const auto lengths_of = [](const TokenRows& of) {  // <s> ▁a a a ... </s>: 2 more than the text's
    std::vector<size_t> lengths;
    for (int64_t i = 0; i < of.size(); ++i) lengths.push_back(of.length(i));
    return lengths;
  };
  const auto text_of = [&] {
    std::string text;
    for (const std::string& row : rows) text += row;
    return text;
  };
  train_on("t.jsonl", text_of());
  config_.validation_split = 0.1;
  const Datasets data = load(RowKind::kPretrain);
  ASSERT_EQ(data.validation.size(), 1u);
  EXPECT_EQ(data.validation[0].name, "validation");
  EXPECT_NEAR(static_cast<double>(data.validation[0].rows.size()), 40, 15);
  EXPECT_EQ(data.train.counts.characters + data.validation[0].counts.characters, 400 * 401 / 2);
  std::vector<size_t> held = lengths_of(data.validation[0].rows),
                      kept = lengths_of(data.train.rows);
  EXPECT_TRUE(std::is_sorted(held.begin(), held.end()));  // file order stays on both sides
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
  std::vector<size_t> all = held;
  all.insert(all.end(), kept.begin(), kept.end());
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i < 400; ++i) EXPECT_EQ(all[i], i + 3);
  // Other rows around a text do not change its side.
  std::reverse(rows.begin(), rows.end());
  rows.resize(300);
  rows.push_back(rows[0]);
  train_on("u.jsonl", text_of());
  const Datasets fewer = load(RowKind::kPretrain);
  for (const size_t length : lengths_of(fewer.validation[0].rows))
    EXPECT_EQ(std::count(held.begin(), held.end(), length), 1) << length;
  for (const size_t length : lengths_of(fewer.train.rows))
    EXPECT_EQ(std::count(kept.begin(), kept.end(), length), 1) << length;
  config_.validation_split = 1e-9;
  expect_error(ErrorKind::kUsage, "data.validation_split", [&] { load(RowKind::kPretrain); });
}

// Texts go by their hash: of a few, one may be far more than was asked for.
TEST_F(DatasetsTest, ASplitFarAboveTheOneAskedForIsRefused) {
  config_.validation_split = 0.1;
  int refused = 0;
  for (int i = 0; i < 40; ++i) {  // each text alone is held out with probability 0.1
    config_.train_files = {
        folder_.write("1.txt", std::string(50, 'a')).string(),
        folder_.write("2.txt", std::string(49, 'a')).string(),
        folder_.write("3.txt", std::string(static_cast<size_t>(i) + 60, 'b')).string()};
    try {
      load(RowKind::kPretrain);
    } catch (const Error& error) {
      const std::string message = error.what();
      const bool share = message.find("% of the tokens") != std::string::npos;
      refused += share ? 1 : 0;
      EXPECT_TRUE(share || message.find("would be held out") != std::string::npos) << message;
      continue;
    }
    ADD_FAILURE() << "a third of the text was taken for a tenth";
  }
  EXPECT_GT(refused, 0);
}

TEST_F(DatasetsTest, DuplicatesAndLengthsAreLeftOutWhereAskedFor) {
  train_on("t.jsonl",
           "{\"text\": \"ab\"}\n{\"text\": \"a b\"}\n{\"input\": \"ab\"}\n"
           "{\"text\": \"a\"}\n{\"text\": \"abababab\"}\n");
  config_.deduplicate = true;
  config_.min_characters = 2;
  config_.max_characters = 7;
  const Datasets data = load(RowKind::kPretrain);
  EXPECT_EQ(data.train.rows.size(), 2);
  EXPECT_EQ(data.train.counts.duplicates, 1);
  EXPECT_EQ(data.train.counts.filtered, 2);
}

TEST_F(DatasetsTest, WhatADocumentIsInATxt) {
  train_on("t.txt", "ab\r\nb\n \n\na\n");
  const auto rows = [&](const char* documents) {
    config_.txt_documents = documents;
    std::vector<std::string> texts;
    const TokenRows all = load(RowKind::kPretrain).train.rows;
    for (int64_t i = 0; i < all.size(); ++i) texts.push_back(tokenizer_.decode(all.ids(i)));
    return texts;
  };
  EXPECT_THAT(rows("whole"), ElementsAre("ab\nb\n \n\na\n"));
  EXPECT_THAT(rows("blank_lines"), ElementsAre("ab\nb", "a"));
  EXPECT_THAT(rows("lines"), ElementsAre("ab", "b", "a"));
  train_on("bad.txt", "ab\n\xff\na\n");
  expect_error(ErrorKind::kData, "bad.txt:2: the text is not valid UTF-8", [&] { rows("lines"); });
  expect_error(ErrorKind::kData, "bad.txt:2:1: the text is not valid UTF-8",
               [&] { rows("whole"); });
}

TEST_F(DatasetsTest, LongTextsAreCutForTheThreadsWithoutATrace) {
  ASSERT_TRUE(newlines_separate(tokenizer_));
  std::string text;
  while (text.size() < 800000) text += text.size() % 7 == 0 ? " ab  b\n" : "ba ab\n\n a";
  train_on("t.txt", text);
  const Datasets data = load(RowKind::kPretrain);
  ASSERT_EQ(data.train.rows.size(), 1);
  std::vector<TokenId> expected = {1};
  tokenizer_.encode_append(text, true, expected);
  expected.push_back(2);
  EXPECT_TRUE(std::ranges::equal(data.train.rows.ids(0), expected));
}

TEST_F(DatasetsTest, TextsAreNotCutWhereAPieceHoldsANewline) {
  const auto path = folder_.write("newline/tokenizer.model",
                                  testing::first_pieces() + testing::piece_field("▁", -1) +
                                      testing::piece_field("a", -2) +
                                      testing::piece_field("a\n", -3) + testing::llama_specs());
  EXPECT_FALSE(newlines_separate(Tokenizer::load(path)));
}

}  // namespace
}  // namespace llama2zh
