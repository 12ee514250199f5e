// Training on several ranks is training on one: T12, T13, T15 and T17 of the reliability notes, and the
// same losses on 1, 2 and 3. Everything runs in forked children.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/temp_folder.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "train/rank_runs.h"

namespace llama2zh {
namespace {

// Epochs of 21 rows end within a step, so that ranks get unequal shares, some none.
void expect_ranks_do_not_matter(const TinyOptions& options) {
  const TempFolder one, two, three;
  train_on(1, options, one.path());
  train_on(2, options, two.path());
  train_on(3, options, three.path());
  expect_same_losses(two.path(), one.path());
  expect_same_losses(three.path(), one.path());
}

TEST(Ranks, SameLossesOnOneTwoAndThree) { expect_ranks_do_not_matter(global_steps(8)); }

TEST(Ranks, SameLossesWithCheckpointingAndFewTouchedRows) {
  TinyOptions options = global_steps(8);
  options.vocab_size = 1000;
  options.train.gradient_checkpointing = true;
  expect_ranks_do_not_matter(options);
}

// Of the embeddings the last rows alone: only those of them that a step touches are exchanged.
TEST(Ranks, SameLossesWithTheLastRowsOfTheEmbeddings) {
  TinyOptions options = global_steps(8);
  options.vocab_size = 1000;
  options.scope.first_trained_row = 20;
  options.lora.target_modules = {};
  expect_ranks_do_not_matter(options);
}

TEST(Ranks, SameLossesOfATiedModelThatTrainsWhole) {
  TinyOptions options = global_steps(6);
  options.full = options.tied = true;
  options.train.learning_rate = 1e-3;
  options.train.loss_reduction = "micro_batch_mean";
  expect_ranks_do_not_matter(options);
}

TEST(Ranks, ResumeOfTwoIsBitExact) {
  const TempFolder straight, stopped;
  TinyOptions options = global_steps(8);
  options.dropout = 0.1;
  options.train.save_steps = 4;
  train_on(2, options, straight.path());
  TinyOptions first = options;
  first.train.stop_at_step = 4;
  train_on(2, first, stopped.path(), /*expected=*/10);
  train_on(2, options, stopped.path(), 0, stopped / "checkpoint-4");
  for (const char* file : {"adapter_model.safetensors", "state.safetensors"}) {
    EXPECT_EQ(read_file(stopped / "checkpoint-8" / file),
              read_file(straight / "checkpoint-8" / file))
        << file;
  }
}

TEST(Ranks, T17SavedByTwoResumedByOne) {
  const TempFolder straight, stopped;
  TinyOptions options = global_steps(8);
  train_on(1, options, straight.path());
  TinyOptions first = options;
  first.train.stop_at_step = 4;
  train_on(2, first, stopped.path(), /*expected=*/10);
  train_on(1, options, stopped.path(), 0, stopped / "checkpoint-4");
  expect_same_losses(stopped.path(), straight.path());
}

TEST(Ranks, T12OnlyTheFirstSavesAndNothingIsLeftOver) {
  const TempFolder folder;
  TinyOptions options = global_steps(5);
  options.train.save_steps = 1;
  train_on(2, options, folder.path());
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 5u);
  EXPECT_TRUE(std::none_of(names.begin(), names.end(),
                           [](const std::string& name) { return name.ends_with(".partial"); }));
}

int64_t lines_of_log(const fs::path& folder) {
  std::ifstream in(folder / "trainer_log.jsonl");
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
}

void wait_for_steps(const fs::path& folder) {
  for (int i = 0; i < 3000 && lines_of_log(folder) < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

TEST(Ranks, T13SignalToOneStopsAllAtTheSameStep) {
  const TempFolder folder;
  ForkedRanks ranks(2, [&](const RankEnvironment& environment) {
    install_stop_signals();
    return train_rank(environment, global_steps(100000), folder.path());
  });
  wait_for_steps(folder.path());
  ::kill(ranks.pid(1), SIGTERM);
  EXPECT_EQ(ranks.codes(), (std::vector<int>{10, 10}));
  const auto saved = list_checkpoints(folder.path());
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_EQ(saved[0].step, read_log(folder.path()).back()["step"].get<int64_t>());
}

TEST(Ranks, T15KilledRankEndsTheOthersWithItsName) {
  const TempFolder folder;
  ForkedRanks ranks(3, [&](const RankEnvironment& environment) {
    try {
      return train_rank(environment, global_steps(100000), folder.path());
    } catch (const Error& error) {
      const std::string text = error.what();
      if (text.find("rank 1 is lost") != std::string::npos) return error.exit_code();
      std::fprintf(stderr, "%s\n", error.what());
      return 50;
    }
  });
  wait_for_steps(folder.path());
  ::kill(ranks.pid(1), SIGKILL);
  EXPECT_EQ(ranks.codes(), (std::vector<int>{1, -SIGKILL, 1}));
}

}  // namespace
}  // namespace llama2zh
