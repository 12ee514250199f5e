#include "llama2zh/data/preference_rows.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "llama2zh/base/file.h"
#include "llama2zh/data/datasets.h"
#include "tokenizer/shared_data.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;

// "user: Q + good - bad"
std::string pair_text(const std::string& row) {
  const PreferencePair pair = parse_preference(json::parse(row), "f.json:3");
  std::string out;
  for (const Message& message : pair.dialogue)
    out += std::string(role_name(message.role)) + ": " + message.content + " ";
  return out + "+ " + pair.chosen + " - " + pair.rejected;
}

TEST(ParsePreference, Forms) {
  EXPECT_EQ(pair_text(R"({"conversations": [{"from": "human", "value": "Q"}],
                          "chosen": {"from": "gpt", "value": "G"},
                          "rejected": {"from": "gpt", "value": "B"}})"),
            "user: Q + G - B");
  EXPECT_EQ(pair_text(R"({"system": "S", "messages": [{"role": "user", "content": "Q"},
                          {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}],
                          "chosen": "G", "rejected": "B"})"),
            "system: S user: Q assistant: A user: R + G - B");
  EXPECT_EQ(pair_text(R"({"prompt": "Q", "chosen": "G", "rejected": "B"})"), "user: Q + G - B");
  EXPECT_EQ(pair_text(R"({"prompt": [{"role": "user", "content": "Q"}],
                          "chosen": [{"role": "assistant", "content": "G"}],
                          "rejected": [{"role": "assistant", "content": "B"}]})"),
            "user: Q + G - B");
  EXPECT_EQ(pair_text(R"({"instruction": "I", "input": "X", "history": [["q", "a"]],
                          "chosen": "G", "rejected": "B"})"),
            "user: q assistant: a user: I\nX + G - B");
  EXPECT_EQ(pair_text(R"({"prompt": "Q", "chosen": [{"role": "user", "content": "Q"},
                          {"role": "assistant", "content": "G"}],
                          "rejected": [{"role": "user", "content": "Q"},
                          {"role": "assistant", "content": "B"}]})"),
            "user: Q + G - B");
}

void expect_bad(const std::string& row, const std::string& problem) {
  expect_error(ErrorKind::kData, "f.json:3: " + problem, [&] { pair_text(row); });
}

TEST(ParsePreference, BadRows) {
  expect_bad(R"({"prompt": "Q", "chosen": "G"})", "the row has no \"rejected\"");
  expect_bad(R"({"prompt": "Q", "chosen": "G", "rejected": 3})", "\"rejected\": expected a text");
  expect_bad(R"({"chosen": "G", "rejected": "B"})", "the row has no dialogue");
  expect_bad(R"({"messages": [{"role": "user", "content": "Q"},
                 {"role": "assistant", "content": "A"}], "chosen": "G", "rejected": "B"})",
             "the dialogue of a preference row has to end with the user's turn");
  expect_bad(
      R"({"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "G"}],
                 "rejected": [{"role": "user", "content": "R"},
                 {"role": "assistant", "content": "B"}]})",
      "\"chosen\" and \"rejected\" differ before their last turn");
}

class EncodePreference : public ::testing::Test {
 protected:
  EncodedPair encode(const std::string& name, int64_t block_size = 4096,
                     const std::string& overlong = "keep_last") const {
    return encode_preference(pair_, ChatTemplate::get(name), tokenizer_, block_size, overlong,
                             "f.json:3");
  }
  // The loader's batch of one pair, cut into its sequences.
  static PackedBatch split(const EncodedPair& pair) {
    TokenRows rows;
    rows.add(pair.ids, pair.supervised);
    LoaderOptions options;
    options.kind = RowKind::kSft;
    options.block_size = 4096;
    PackedBatch batch = BatchLoader(rows, options).batch(0, 0);
    split_pairs(batch);
    return batch;
  }
  Tokenizer tokenizer_ = Tokenizer::load(testing::TinyModel().path());
  PreferencePair pair_{
      {{Role::kUser, "ab"}, {Role::kAssistant, "b"}, {Role::kUser, "ba"}}, "ab ab a", "b"};
};

TEST_F(EncodePreference, EachAnswerIsTheDialoguesOwnEncodingAndTheBorderIsFound) {
  for (const std::string& name : ChatTemplate::names()) {
    const EncodedPair pair = encode(name);
    const PackedBatch batch = split(pair);
    ASSERT_EQ(batch.boundaries.size(), 3u) << name;
    for (size_t i = 0; i < 2; ++i) {
      std::vector<Message> messages = pair_.dialogue;
      messages.push_back({Role::kAssistant, i == 0 ? pair_.chosen : pair_.rejected});
      const EncodedDialogue whole = ChatTemplate::get(name).encode(tokenizer_, messages);
      const auto begin = static_cast<size_t>(batch.boundaries[i]);
      const auto count = static_cast<size_t>(batch.boundaries[i + 1]) - begin;
      const auto prompt = ChatTemplate::get(name).encode_prompt(tokenizer_, pair_.dialogue);
      ASSERT_LE(count, whole.ids.size()) << name;
      EXPECT_TRUE(std::equal(whole.ids.begin(), whole.ids.begin() + static_cast<int64_t>(count),
                             pair.ids.begin() + static_cast<int64_t>(begin)))
          << name;
      // Only the last answer is learnt from.
      for (size_t at = 0; at < whole.ids.size(); ++at) {
        const bool expected = at >= prompt.size() && whole.supervised[at] != 0;
        const bool found = at < count && pair.supervised[begin + at] != 0;
        EXPECT_EQ(found, expected) << name << " answer " << i << " id " << at;
      }
    }
  }
}

TEST_F(EncodePreference, OverlongPairs) {
  const EncodedPair whole = encode("v0.1");
  EXPECT_FALSE(whole.overlong);
  const PackedBatch batch = split(whole);
  const int64_t chosen = batch.boundaries[1], rejected = batch.boundaries[2] - chosen;
  ASSERT_GT(chosen, rejected);
  // The longer one alone gives way as long as that is enough.
  const EncodedPair cut = encode("v0.1", chosen + rejected - 2);
  EXPECT_TRUE(cut.overlong);
  EXPECT_EQ(split(cut).boundaries, (std::vector<int64_t>{0, chosen - 2, chosen + rejected - 2}));
  EXPECT_TRUE(std::equal(cut.ids.begin() + chosen - 2, cut.ids.end(), whole.ids.begin() + chosen));
  // Then both, to their ends.
  const EncodedPair halves = encode("v0.1", 12);
  EXPECT_EQ(split(halves).boundaries, (std::vector<int64_t>{0, 6, 12}));
  EXPECT_TRUE(std::equal(halves.ids.begin() + 6, halves.ids.end(), whole.ids.end() - 6));
  EXPECT_TRUE(encode("v0.1", 12, "drop_row").ids.empty());
}

TEST(PreferenceRows, AreReadFromAFile) {
  const testing::TemporaryFolder folder;
  const auto file = folder.write("pairs.jsonl", R"({"prompt": "ab", "chosen": "a", "rejected": "b"}
{"prompt": "ba", "chosen": "b"}
{"prompt": "b", "chosen": "ab", "rejected": "ba"}
)");
  DataConfig config;
  config.train_files = {file.string()};
  config.format = "preference";
  const Tokenizer tokenizer = Tokenizer::load(testing::TinyModel().path());
  expect_error(ErrorKind::kData, "pairs.jsonl:2: the row has no \"rejected\"",
               [&] { load_datasets(config, RowKind::kSft, tokenizer); });
  config.skip_bad_rows = true;
  const Datasets data = load_datasets(config, RowKind::kSft, tokenizer);
  EXPECT_EQ(data.train.rows.size(), 2);
  EXPECT_EQ(data.train.counts.bad, 1);
}

TEST(PreferenceRows, TheSharedDemonstrationIsPairs) {
  LLAMA2ZH_NEED_SHARED_DATA();
  DataConfig config;
  config.train_files = {(testing::shared_data() / "sft/dpo_zh_demo.json").string()};
  config.format = "preference";
  config.block_size = 2048;
  config.chat_template = "llama2_zh";
  const Datasets data =
      load_datasets(config, RowKind::kSft, Tokenizer::load(testing::TinyModel().path()));
  EXPECT_GT(data.train.rows.size(), 50);
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 2048;
  const BatchLoader loader(data.train.rows, options);
  int64_t pairs = 0;
  for (int64_t i = 0; i < loader.batches(0); ++i) {
    PackedBatch batch = loader.batch(0, i);
    split_pairs(batch);
    EXPECT_EQ(batch.boundaries.size(), 2 * batch.rows.size() + 1);
    pairs += static_cast<int64_t>(batch.rows.size());
  }
  EXPECT_EQ(pairs, data.train.rows.size());
}

}  // namespace
}  // namespace llama2zh
