// Token stores: the same rows as in memory, the same bytes however they were made, and nothing that
// is damaged or of something else is taken.
#include "llama2zh/data/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "base/child.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/data/training_data.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;

class PrepareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.chat_template = "plain";
    config_.cache_dir = (folder_.path() / "cache").string();
    config_.threads = 2;
  }
  void TearDown() override { clear_stop(); }

  PrepareOptions options(const std::string& output, const std::vector<std::string>& files) const {
    PrepareOptions options;
    options.files = expand_files(files);
    options.output = folder_.path() / output;
    options.shard_tokens = 100000;
    options.journal_seconds = 0;
    return options;
  }
  fs::path make(const PrepareOptions& options, RowKind kind = RowKind::kPretrain) const {
    EXPECT_EQ(prepare_store(config_, kind, tokenizer_, options), PrepareOutcome::kFinished);
    return options.output;
  }
  // Text of several chunks: a .txt in parts, rows, bad ones and duplicates among them.
  std::vector<std::string> corpus() const {
    Random random(3);
    const auto text = [&](size_t size, const char* end) {
      std::string out;
      while (out.size() < size) {
        for (uint64_t n = 1 + random.below(30); n > 0; --n) out += "ab "[random.below(3)];
        out += end;
      }
      return out;
    };
    std::string rows;
    for (int i = 0; i < 1500; ++i) {
      rows += i % 250 == 17 ? "{bad}\n"
                            : json{{"text", i % 7 == 0 ? "a b ab" : text(300, " ")}}.dump() + "\n";
    }
    return {folder_.write("rows.jsonl", rows).string(),
            folder_.write("long.txt", text(700000, "\n")).string()};
  }
  static std::map<std::string, std::string> bytes_of(const fs::path& store) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(store))
      files[entry.path().filename().string()] = read_file(entry.path());
    return files;
  }
  static void expect_same(const RowSource& a, const RowSource& b) {
    ASSERT_EQ(a.size(), b.size());
    for (int64_t row = 0; row <= a.size(); ++row) ASSERT_EQ(a.begin(row), b.begin(row)) << row;
    std::vector<TokenId> ids_a, ids_b;
    std::vector<uint8_t> marks_a, marks_b;
    a.read(0, a.total_tokens(), ids_a, marks_a);
    b.read(0, b.total_tokens(), ids_b, marks_b);
    EXPECT_EQ(ids_a, ids_b);
    EXPECT_EQ(marks_a, marks_b);
    EXPECT_EQ(a.total_supervised(), b.total_supervised());
    EXPECT_EQ(a.longest(), b.longest());
  }

  testing::TinyModel model_;
  testing::TemporaryFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::load(model_.path());
  DataConfig config_;
};

TEST_F(PrepareTest, StoresHoldTheRowsOfMemory) {
  config_.skip_bad_rows = config_.deduplicate = true;
  config_.validation_split = 0.05;
  config_.train_files = corpus();
  PrepareOptions made = options("store", config_.train_files);
  made.held_out = 0.05;
  const fs::path store = make(made);
  const Datasets data = load_datasets(config_, RowKind::kPretrain, tokenizer_);
  expect_same(*open_token_store(store, "train"), data.train.rows);
  expect_same(*open_token_store(store, "validation"), data.validation[0].rows);
  const StoreInfo info = read_store_info(store);
  EXPECT_EQ(info.id_bytes, 2);
  EXPECT_GE(info.sets.at("train").shards.size(), 3u);
  EXPECT_EQ(info.sets.at("train").counts.bad, 6);
  EXPECT_EQ(info.sets.at("train").counts.characters, data.train.counts.characters);
  EXPECT_GT(info.sets.at("train").counts.duplicates, 200);
  EXPECT_THAT(read_file(store / "bad_rows.txt"), ::testing::HasSubstr("rows.jsonl:18:2: "));
  verify_token_store(store);
  EXPECT_FALSE(fs::exists(store / "prepare_state.json"));
}

TEST_F(PrepareTest, DialoguesKeepTheirMasks) {
  const std::string file = folder_
                               .write("d.jsonl", R"({"query": "a", "response": "b ab"}
{"text": "ab ab"}
{"query": "a b", "response": "b"})")
                               .string();
  config_.train_files = {file};
  const fs::path store = make(options("store", {file}), RowKind::kSft);
  expect_same(*open_token_store(store, "train"),
              load_datasets(config_, RowKind::kSft, tokenizer_).train.rows);
  EXPECT_TRUE(fs::exists(store / "train-00000.mask"));
}

TEST_F(PrepareTest, TheSameBytesWithAnyNumberOfThreads) {
  config_.skip_bad_rows = config_.deduplicate = true;
  const std::vector<std::string> files = corpus();
  config_.threads = 1;
  const auto one = bytes_of(make(options("one", files)));
  config_.threads = 5;
  EXPECT_EQ(bytes_of(make(options("five", files))), one);
}

TEST_F(PrepareTest, InterruptedWorkGoesOnToTheSameBytes) {
  config_.skip_bad_rows = config_.deduplicate = true;
  const std::vector<std::string> files = corpus();
  PrepareOptions straight = options("straight", files);
  straight.held_out = 0.1;
  const auto expected = bytes_of(make(straight));
  for (const bool killed : {false, true}) {
    SCOPED_TRACE(killed ? "SIGKILL" : "SIGTERM");
    PrepareOptions again = options(killed ? "killed" : "stopped", files);
    again.held_out = 0.1;
    int64_t chunks = 0, interruptions = 0;
    for (bool finished = false; !finished;) {
      ASSERT_LT(interruptions, 30);
      PrepareOptions session = again;
      // Dies in its second chunk, before that is journaled.
      session.on_chunk = [&](int64_t done) {
        ++chunks;
        if (done < 2) return;
        if (killed) ::kill(::getpid(), SIGKILL);
        request_stop(SIGTERM);
      };
      if (killed) {
        const int status = run_in_child([&] {
          return prepare_store(config_, RowKind::kPretrain, tokenizer_, session) ==
                         PrepareOutcome::kFinished
                     ? 7
                     : 8;
        });
        finished = WIFEXITED(status) && WEXITSTATUS(status) == 7;
        EXPECT_TRUE(finished || WIFSIGNALED(status));
      } else {
        finished = prepare_store(config_, RowKind::kPretrain, tokenizer_, session) ==
                   PrepareOutcome::kFinished;
        clear_stop();
      }
      EXPECT_EQ(fs::exists(again.output), finished);
      interruptions += finished ? 0 : 1;
    }
    EXPECT_GE(interruptions, 2);
    EXPECT_TRUE(killed || chunks <= 12) << "work was done twice: " << chunks;
    EXPECT_EQ(bytes_of(again.output), expected);
    EXPECT_FALSE(fs::exists(again.output.string() + StagedFolder::kSuffix));
  }
}

TEST_F(PrepareTest, UnfinishedWorkOfOtherOptionsIsNotTakenUp) {
  config_.skip_bad_rows = true;
  const std::vector<std::string> files = corpus();
  PrepareOptions first = options("store", files);
  first.on_chunk = [](int64_t) { request_stop(SIGINT); };
  EXPECT_EQ(prepare_store(config_, RowKind::kPretrain, tokenizer_, first),
            PrepareOutcome::kStopped);
  clear_stop();
  config_.min_characters = 20;
  const auto bytes = bytes_of(make(options("store", files)));
  EXPECT_EQ(bytes, bytes_of(make(options("other", files))));
}

TEST_F(PrepareTest, ABadPartTakesTheTextBack) {
  std::string text;
  while (text.size() < 800000) text += "ab ab b\n";
  const std::string bad = folder_.write("bad.txt", text + "\xff").string();
  const std::string good = folder_.write("good.txt", "ab").string();
  expect_error(ErrorKind::kData, "bad.txt:100001:1: the text is not valid UTF-8", [&] {
    make(options("store", {bad, good}));
  });
  config_.skip_bad_rows = true;
  const StoreInfo info = read_store_info(make(options("store", {bad, good})));
  EXPECT_EQ(info.sets.at("train").rows, 1);
  EXPECT_EQ(info.sets.at("train").tokens, 3);
  EXPECT_EQ(info.sets.at("train").counts.bad, 1);
  verify_token_store(folder_.path() / "store");
}

TEST_F(PrepareTest, ErrorsLeaveNoStore) {
  const std::string empty = folder_.write("empty.txt", " \n").string();
  expect_error(ErrorKind::kData, "empty.txt: the data is empty",
               [&] { make(options("store", {empty})); });
  EXPECT_FALSE(fs::exists(folder_.path() / "store"));
  const std::string text = folder_.write("t.txt", "ab").string();
  make(options("store", {text}));
  expect_error(ErrorKind::kUsage, "not empty", [&] { make(options("store", {text})); });
}

TEST_F(PrepareTest, DamagedStoresAreRefused) {
  config_.skip_bad_rows = true;
  const fs::path store = make(options("store", corpus()));
  const auto copy = [&](const char* name) {
    const fs::path other = folder_.path() / name;
    fs::copy(store, other);
    return other;
  };
  const fs::path cut = copy("cut");
  fs::resize_file(cut / "train-00001.ids", 1000);
  expect_error(ErrorKind::kFormat, "train-00001.ids", [&] { open_token_store(cut, "train"); });
  const fs::path missing = copy("missing");
  fs::remove(missing / "train-00000.rows");
  expect_error(ErrorKind::kFormat, "train-00000.rows", [&] { open_token_store(missing, "train"); });
  const fs::path half = copy("half");
  fs::remove(half / "llama2zh_manifest.json");
  EXPECT_FALSE(is_token_store(half));
  // Of the right size, but with ids beyond the vocabulary, or rows that end beyond the shard.
  const auto overwrite = [](const fs::path& file, size_t at) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.write("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  };
  const fs::path ids = copy("ids");
  overwrite(ids / "train-00000.ids", 100);
  const auto rows = open_token_store(ids, "train");
  std::vector<TokenId> out;
  std::vector<uint8_t> marks;
  expect_error(ErrorKind::kFormat, "token id 65535", [&] { rows->read(0, 200, out, marks); });
  expect_error(ErrorKind::kFormat, "train-00000.ids", [&] { verify_token_store(ids); });
  const fs::path ends = copy("ends");
  overwrite(ends / "train-00000.rows", 8);
  const auto damaged = open_token_store(ends, "train");
  expect_error(ErrorKind::kFormat, "row 2 ends behind", [&] { damaged->begin(2); });
}

TEST_F(PrepareTest, ManyIdsNeedFourBytes) {
  std::string bytes = testing::first_pieces();
  for (int i = 0; i < 66000; ++i)
    bytes += testing::piece_field(cat("甲", i), -1.0f - static_cast<float>(i));
  bytes += testing::piece_field("▁", -1e6f) + testing::llama_specs();
  const Tokenizer wide = Tokenizer::load(folder_.write("wide/tokenizer.model", bytes));
  const std::string file = folder_.write("t.txt", "a甲65990甲").string();
  config_.train_files = {file};
  const PrepareOptions made = options("store", {file});
  EXPECT_EQ(prepare_store(config_, RowKind::kPretrain, wide, made), PrepareOutcome::kFinished);
  EXPECT_EQ(read_store_info(made.output).id_bytes, 4);
  expect_same(*open_token_store(made.output, "train"),
              load_datasets(config_, RowKind::kPretrain, wide).train.rows);
}

// Lines of progress appear once it takes longer than two seconds.
TEST_F(PrepareTest, ProgressSaysTheSpeed) {
  config_.skip_bad_rows = true;
  PrepareOptions slow = options("store", corpus());
  slow.on_chunk = [](int64_t chunks) {
    if (chunks == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  };
  ::testing::internal::CaptureStderr();
  make(slow);
  EXPECT_THAT(
      ::testing::internal::GetCapturedStderr(),
      ::testing::ContainsRegex(
          "tokenizing: .* MB.*[0-9]\\.[0-9] MB/s of text, [0-9,]+ rows, [0-9,]+ tokens, bad 6"));
}

}  // namespace
}  // namespace llama2zh
