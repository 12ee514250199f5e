// The loop around the steps: signals, numbers that are not finite, rotation, the log, epochs.
#include "llama2zh/train/trainer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <limits>
#include <thread>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

TinyOptions steps(int64_t count) {
  TinyOptions options;
  options.train = tiny_trainer_config();
  options.train.max_steps = count;
  return options;
}

std::vector<int64_t> numbers(const fs::path& folder) {
  std::vector<int64_t> result;
  for (const CheckpointEntry& entry : list_checkpoints(folder)) result.push_back(entry.step);
  return result;
}

// Whole lines in the log so far; it may be in the middle of being written.
int64_t read_log_lines(const fs::path& folder) {
  const std::string text = read_file(folder / "trainer_log.jsonl");
  return std::count(text.begin(), text.end(), '\n');
}

TEST(Trainer, PoisonedWeightStopsTheRunAndIsNotApplied) {
  const TempFolder folder;
  TinyOptions options = steps(6);
  options.train.save_steps = 2;
  options.train.stop_at_step = 2;
  TinyRun first(options, folder.path());
  first.trainer().run();
  options.train.stop_at_step = 0;
  TinyRun run(options, folder.path());
  run.trainer().resume(folder / "checkpoint-2", read_training_state(folder / "checkpoint-2"));
  run.model().norm[3] = std::numeric_limits<float>::quiet_NaN();
  std::vector<at::Tensor> before;
  for (const auto& [name, tensor] : run.everything()) before.push_back(tensor.clone());
  const std::string text = error_text_of(ErrorKind::kData, [&] { run.trainer().run(); });
  EXPECT_NE(text.find("step 3: the loss is nan"), std::string::npos) << text;
  EXPECT_NE(text.find("checkpoint-2"), std::string::npos) << text;
  EXPECT_EQ(run.trainer().state().step, 2);
  const auto after = run.everything();
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_TRUE(bit_equal(before[i], after[i].second)) << after[i].first;
  }
  EXPECT_EQ(numbers(folder.path()), (std::vector<int64_t>{2}));
}

TEST(Trainer, SignalSavesAtTheNextStep) {
  const TempFolder folder;
  TinyOptions options = steps(100000);
  TinyRun run(options, folder.path());
  install_stop_signals();
  std::thread killer([&] {
    while (!fs::exists(folder / "trainer_log.jsonl") || read_log_lines(folder.path()) < 3) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    ::kill(::getpid(), SIGTERM);
  });
  EXPECT_EQ(run.trainer().run(), TrainOutcome::kStopped);
  killer.join();
  clear_stop();
  const int64_t step = run.trainer().state().step;
  EXPECT_GE(step, 3);
  EXPECT_EQ(numbers(folder.path()), (std::vector<int64_t>{step}));
  verify_manifest(folder / cat("checkpoint-", step), /*deep=*/true);
}

TEST(Trainer, T9T11RotationIsByNumberAndLeavesOtherRunsAlone) {
  const TempFolder folder;
  TinyOptions options = steps(6);
  options.train.save_steps = 1;
  options.train.save_total_limit = 2;
  fs::create_directories(folder / "checkpoint-1000");
  write_file_atomic(folder / "checkpoint-1000/trainer_state.json", "{}");
  TinyRun run(options, folder.path());
  run.trainer().run();
  EXPECT_EQ(numbers(folder.path()), (std::vector<int64_t>{5, 6, 1000}));
  for (const int64_t step : {900, 10000}) {
    fs::copy(folder / "checkpoint-6", folder / cat("checkpoint-", step));
  }
  rotate_checkpoints(folder.path(), "tiny", 2, 10000, 0);
  EXPECT_EQ(numbers(folder.path()), (std::vector<int64_t>{900, 1000, 10000}));
  rotate_checkpoints(folder.path(), "tiny", 0, 10000, 0);
  rotate_checkpoints(folder.path(), "tiny", 1, 900, 0);  // 10000 is of a future that broke
  EXPECT_EQ(numbers(folder.path()).size(), 3u);
}

TEST(Trainer, AnotherRunsCheckpointIsNotReplaced) {
  const TempFolder folder;
  TinyOptions options = steps(2);
  options.train.save_steps = 2;
  TinyRun first(options, folder.path());
  first.trainer().run();
  Snapshot foreign;
  foreign.state = read_training_state(folder / "checkpoint-2");
  foreign.state.run_id = "another";
  const std::string text =
      error_text_of(ErrorKind::kUsage, [&] { write_checkpoint(folder.path(), foreign); });
  EXPECT_NE(text.find("another run"), std::string::npos) << text;
}

TEST(Trainer, FailedSaveKeepsOldCheckpointsAndTheRunGoesOn) {
  const TempFolder folder;
  TinyOptions options = steps(4);
  options.train.save_steps = 2;
  options.train.save_total_limit = 1;
  fs::create_directories(folder / "checkpoint-4.llama2zh.partial");
  const int other_writer = ::open((folder / "checkpoint-4.llama2zh.partial").c_str(), O_RDONLY);
  ASSERT_EQ(::flock(other_writer, LOCK_EX), 0);
  TinyRun run(options, folder.path());
  EXPECT_EQ(run.trainer().run(), TrainOutcome::kFinished);
  ::close(other_writer);
  EXPECT_EQ(run.trainer().state().step, 4);
  EXPECT_EQ(numbers(folder.path()), (std::vector<int64_t>{2}));
}

TEST(Trainer, LogHasBothSetsOfNames) {
  const TempFolder folder;
  TinyOptions options = steps(5);
  options.train.logging_steps = 2;
  TinyRun run(options, folder.path());
  run.trainer().run();
  const auto lines = read_log(folder.path());
  ASSERT_EQ(lines.size(), 3u);  // steps 2, 4 and the last
  for (const char* key :
       {"step", "current_steps", "total_steps", "loss", "lr", "learning_rate", "grad_norm", "epoch",
        "percentage", "elapsed_time", "remaining_time", "supervised_tokens", "tokens_per_second",
        "throughput", "total_tokens", "memory", "data_wait"}) {
    EXPECT_TRUE(lines[0].contains(key)) << key;
  }
  EXPECT_EQ(lines[1]["step"], 4);
  EXPECT_EQ(lines[1]["percentage"], 80.0);
  EXPECT_EQ(lines[2]["step"], 5);
}

// Without a thread that makes micro-batches ahead, making them is waiting.
TEST(Trainer, WaitingForDataIsAShareOfTheStepsTime) {
  const TempFolder folder;
  TinyOptions options = steps(5);
  options.train.logging_steps = 5;
  TinyRun run(options, folder.path());
  EXPECT_EQ(run.trainer().data_wait(), 0);
  run.trainer().run();
  EXPECT_GT(run.trainer().data_wait(), 0);
  EXPECT_LT(run.trainer().data_wait(), 1);
  EXPECT_NEAR(read_log(folder.path()).at(0)["data_wait"], run.trainer().data_wait(), 1e-4);
}

TEST(Trainer, EpochsAndFractionsOfThem) {
  const TempFolder folder;
  TinyOptions options = steps(0);
  TinyRun run(options, folder.path());
  const int64_t batches = run.loader().batches(0);
  EXPECT_EQ(run.trainer().total_steps(), (batches + 3) / 4);
  TrainerConfig config = options.train;
  config.num_train_epochs = 0.5;
  EXPECT_EQ(StepCount(run.loader(), config).total(), ((batches + 3) / 4 + 1) / 2);
  config.num_train_epochs = 2;
  EXPECT_EQ(StepCount(run.loader(), config).total(),
            (batches + 3) / 4 + (run.loader().batches(1) + 3) / 4);
}

TEST(Trainer, EvaluationIsTheMeanOverTokens) {
  const TempFolder folder;
  TinyRun run(steps(2), folder.path());
  const TokenRows rows = random_rows(9, 48, 16);
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 16;
  options.shuffle = false;
  const ValidationSet set{"held_out", BatchLoader(rows, options), rows.total_supervised(), 100};
  const auto result = evaluate_loss(run.model(), set, 5, [] { return false; });
  ASSERT_TRUE(result);
  EXPECT_NEAR(result->loss, std::log(48), 1.0);
  EXPECT_NEAR(result->perplexity(), std::exp(result->loss), 1e-9);
  EXPECT_NEAR(*result->bits_per_character,
              result->loss / std::log(2.0) * static_cast<double>(rows.total_supervised()) / 100,
              1e-9);
  int asked = 0;
  EXPECT_FALSE(evaluate_loss(run.model(), set, 5, [&] { return ++asked == 3; }));
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace llama2zh
