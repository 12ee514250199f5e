// What a run's data section opens: stores, caches of raw files, mixtures; and what it refuses.
#include "llama2zh/data/training_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "llama2zh/base/signals.h"
#include "llama2zh/data/prepare.h"
#include "llama2zh/data/token_store.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;

class TrainingDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.cache_dir = (folder_.path() / "cache").string();
    config_.chat_template = "plain";
  }
  void TearDown() override { clear_stop(); }

  TrainingData open(RowKind kind = RowKind::kPretrain) const {
    return open_training_data(config_, kind, tokenizer_);
  }
  std::string text(const std::string& name, int rows) const {
    std::string all;
    for (int i = 0; i < rows; ++i)
      all += json{{"text", std::string(3 + i % 50, 'a')}}.dump() + "\n";
    return folder_.write(name, all).string();
  }
  std::string prepare(const std::string& name, const std::string& file, RowKind kind,
                      double held_out = 0) const {
    PrepareOptions options;
    options.files = {file};
    options.output = folder_.path() / name;
    options.held_out = held_out;
    prepare_store(config_, kind, tokenizer_, options);
    return options.output.string();
  }
  static std::vector<TokenId> ids_of(const RowSource& rows) {
    std::vector<TokenId> ids;
    std::vector<uint8_t> marks;
    rows.read(0, rows.total_tokens(), ids, marks);
    return ids;
  }
  // Seconds since the epoch at which the cache's one store was made.
  fs::file_time_type made_at() const {
    for (const auto& entry : fs::directory_iterator(config_.cache_dir)) {
      if (entry.is_directory()) return fs::last_write_time(entry.path() / "llama2zh_manifest.json");
    }
    return {};
  }

  int entries() const {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(config_.cache_dir))
      count += entry.is_directory() ? 1 : 0;
    return count;
  }
  fs::file_time_type newest_made() const {
    auto newest = fs::file_time_type::min();
    for (const auto& entry : fs::directory_iterator(config_.cache_dir)) {
      if (entry.is_directory())
        newest = std::max(newest, fs::last_write_time(entry.path() / "llama2zh_manifest.json"));
    }
    return newest;
  }

  testing::TinyModel model_;
  testing::TemporaryFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::load(model_.path());
  DataConfig config_;
};

TEST_F(TrainingDataTest, RawFilesStoresAndMemoryAgree) {
  const std::string a = text("a.jsonl", 40), b = text("b.jsonl", 70);
  config_.train_files = {a, b};
  const TrainingData raw = open();
  const auto in_memory = load_datasets(config_, RowKind::kPretrain, tokenizer_).train.rows;
  EXPECT_TRUE(std::ranges::equal(ids_of(*raw.train[0].set.rows), in_memory.all_ids()));
  EXPECT_EQ(raw.counts().rows, 110);
  config_.train_files = {prepare("store", a, RowKind::kPretrain), b};
  const TrainingData joined = open();
  EXPECT_EQ(ids_of(*joined.train[0].set.rows), ids_of(*raw.train[0].set.rows));
  for (int64_t row = 0; row <= 110; ++row)
    EXPECT_EQ(joined.train[0].set.rows->begin(row), raw.train[0].set.rows->begin(row));
  const BatchLoader one(raw.mixed_rows(), {}), two(joined.mixed_rows(), {});
  EXPECT_EQ(one.batch(0, 1).rows, two.batch(0, 1).rows);
  EXPECT_EQ(joined.counts().characters, raw.counts().characters);
}

TEST_F(TrainingDataTest, TheCacheIsTakenWhileNothingChanged) {
  config_.train_files = {text("a.jsonl", 40)};
  const std::string fingerprint = open().fingerprint();
  const auto first = made_at();
  EXPECT_EQ(open().fingerprint(), fingerprint);
  EXPECT_EQ(made_at(), first);
  const TrainingData held = open();  // keeps its pages while the file is replaced below
  const std::vector<TokenId> before = ids_of(*held.train[0].set.rows);
  text("a.jsonl", 41);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(open().counts().rows, 41);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::ContainsRegex("are stale \\(files \\(.*a.jsonl"));
  EXPECT_EQ(ids_of(*held.train[0].set.rows), before);
  EXPECT_EQ(entries(), 1);
}

TEST_F(TrainingDataTest, OptionsHaveCachesSideBySide) {
  config_.train_files = {text("a.jsonl", 40)};
  const std::string fingerprint = open().fingerprint();
  config_.min_characters = 5;
  EXPECT_NE(open().fingerprint(), fingerprint);
  const Tokenizer other = Tokenizer::load(folder_.write(
      "other/tokenizer.model", testing::first_pieces() + testing::piece_field("▁", -1) +
                                   testing::piece_field("a", -2) + testing::llama_specs()));
  open_training_data(config_, RowKind::kPretrain, other);
  EXPECT_EQ(entries(), 3);
  const auto newest = newest_made();
  config_.min_characters = 0;
  EXPECT_EQ(open().fingerprint(), fingerprint);  // as it was, not made again
  EXPECT_EQ(newest_made(), newest);
  // The least recently used one goes: the first is the one that was used last.
  for (int least : {6, 7, 8}) {
    config_.min_characters = least;
    open();
    EXPECT_LE(entries(), 4);
  }
  const auto last = newest_made();
  config_.min_characters = 0;
  EXPECT_EQ(open().fingerprint(), fingerprint);
  EXPECT_EQ(newest_made(), last);
}

TEST_F(TrainingDataTest, OneMakesTheCacheAndTheOthersWait) {
  config_.train_files = {text("a.jsonl", 3000)};
  std::vector<std::string> fingerprints(4);
  {
    std::vector<std::jthread> threads;
    for (std::string& fingerprint : fingerprints)
      threads.emplace_back([&] { fingerprint = open().fingerprint(); });
  }
  for (const std::string& fingerprint : fingerprints) EXPECT_EQ(fingerprint, fingerprints[0]);
}

TEST_F(TrainingDataTest, AStopWhileTokenising) {
  config_.train_files = {text("a.jsonl", 3000)};
  request_stop(SIGTERM);
  EXPECT_TRUE(open().stopped);
  clear_stop();
  EXPECT_EQ(open().counts().rows, 3000);
}

TEST_F(TrainingDataTest, StoresOfSomethingElseAreRefused) {
  const std::string file =
      folder_.write("d.jsonl", R"({"query": "ab", "response": "ab ab"})").string();
  const std::string store = prepare("store", file, RowKind::kSft);
  config_.train_files = {store};
  EXPECT_EQ(open(RowKind::kSft).counts().rows, 1);
  const auto refused = [&](const std::string& part, RowKind kind = RowKind::kSft) {
    expect_error(ErrorKind::kFormat, part, [&] { open(kind); });
  };
  refused("were prepared for sft, this is pretrain", RowKind::kPretrain);
  config_.chat_template = "chatml";
  refused("follow the template plain, data.template is chatml");
  config_.chat_template = "plain";
  config_.block_size = 3;
  refused("rows of 5 tokens, data.block_size is 3");
  config_.block_size = 512;
  config_.max_rows = 1;
  expect_error(ErrorKind::kUsage, "data.max_rows", [&] { open(RowKind::kSft); });
  config_.max_rows = 0;
  config_.validation_split = 0.5;
  expect_error(ErrorKind::kUsage, "was prepared without one", [&] { open(RowKind::kSft); });
  config_.validation_split = 0;
  const Tokenizer other = Tokenizer::load(folder_.write(
      "other/tokenizer.model", testing::first_pieces() + testing::piece_field("▁", -1) +
                                   testing::piece_field("a", -2) + testing::llama_specs()));
  expect_error(ErrorKind::kFormat, "of another tokenizer",
               [&] { open_training_data(config_, RowKind::kSft, other); });
}

TEST_F(TrainingDataTest, MixturesNameTheirSources) {
  const std::string zh = prepare("zh", text("zh.jsonl", 300), RowKind::kPretrain, 0.1);
  config_.mixture = {{zh, 3.0, {}, {}}, {text("en.jsonl", 50), 1.0, {}, {}}};
  config_.block_size = 64;
  const TrainingData data = open();
  ASSERT_EQ(data.train.size(), 2u);
  ASSERT_EQ(data.validation.size(), 1u);  // the store's own
  EXPECT_EQ(data.validation[0].name, "zh");
  LoaderOptions options;
  options.block_size = 64;
  const BatchLoader loader(data.mixed_rows(), options);
  EXPECT_NEAR(static_cast<double>(loader.sources()[0].in_epoch),
              3.0 * static_cast<double>(loader.sources()[1].in_epoch), 2);
  const std::string fingerprint = data.fingerprint();
  config_.mixture[1].weight = 2.0;
  EXPECT_NE(open().fingerprint(), fingerprint);
  config_.train_files = {zh};
  expect_error(ErrorKind::kUsage, "together with data.train_files", [&] { open(); });
  config_.train_files = {};
  config_.mixture = {};
  expect_error(ErrorKind::kUsage, "no training files are named", [&] { open(); });
}

}  // namespace
}  // namespace llama2zh
