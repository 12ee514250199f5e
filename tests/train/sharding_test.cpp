// Sharded moments and gradients (ZeRO) change who holds what, not what is trained: losses of one rank
// that holds everything, on 1, 2 and 3. Everything runs in forked children.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/temp_folder.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "train/rank_runs.h"

namespace llama2zh {
namespace {

TinyOptions with_stage(TinyOptions options, int64_t stage, bool offload = false) {
  options.sharding.stage = stage;
  if (offload) options.sharding.state_device = at::kCPU;
  return options;
}

TinyOptions whole_and_tied(int64_t steps) {
  TinyOptions options = global_steps(steps);
  options.full = options.tied = true;
  options.train.learning_rate = 1e-3;
  return options;
}

void expect_sharding_does_not_matter(const TinyOptions& options) {
  const TempFolder plain;
  train_on(1, options, plain.path());
  for (const int64_t stage : {1, 2}) {
    for (const int64_t ranks : {1, 2, 3}) {
      SCOPED_TRACE(cat("stage ", stage, ", ", ranks, " ranks"));
      const TempFolder folder;
      train_on(ranks, with_stage(options, stage), folder.path());
      expect_same_losses(folder.path(), plain.path());
    }
  }
}

// Epochs of 21 rows end within a step: ranks get unequal numbers of micro-batches, some none, and
// of tokens. Clipping, warmup and weight decay are on.
TEST(Sharding, SameLosses) { expect_sharding_does_not_matter(global_steps(8)); }

TEST(Sharding, SameLossesOfATiedModelThatTrainsWhole) {
  TinyOptions options = whole_and_tied(6);
  options.train.loss_reduction = "micro_batch_mean";
  expect_sharding_does_not_matter(options);
}

// Rates of their own for embeddings and B, of the embeddings the last rows alone, recomputation.
TEST(Sharding, SameLossesWithGroupsOfRatesAndTrainedRows) {
  TinyOptions options = global_steps(6);
  options.scope.first_trained_row = 20;
  options.train.embedding_learning_rate = 1e-3;
  options.train.loraplus_lr_ratio = 4;
  options.train.gradient_checkpointing = true;
  expect_sharding_does_not_matter(options);
}

TEST(Sharding, OffloadedStatesGiveTheSameBits) {
  for (const int64_t stage : {1, 2}) {
    const TempFolder here, offloaded;
    TinyOptions options = global_steps(5);
    options.train.save_steps = 5;
    train_on(2, with_stage(options, stage), here.path());
    train_on(2, with_stage(options, stage, /*offload=*/true), offloaded.path());
    for (const std::string file :
         {"adapter_model.safetensors", "moments-00002-of-00002.safetensors"}) {
      EXPECT_TRUE(read_file(offloaded / "checkpoint-5" / file) ==
                  read_file(here / "checkpoint-5" / file))
          << file << ", stage " << stage;
    }
  }
}

int64_t moment_elements(const fs::path& file) {
  int64_t count = 0;
  const auto source = open_safetensors(file);
  for (const TensorInfo& info : source->tensors()) {
    if (info.name.starts_with("exp_avg.")) count += info.numel();
  }
  return count;
}

TEST(Sharding, EachRankHoldsItsPartOfTheMoments) {
  const TempFolder plain, folder;
  TinyOptions options = whole_and_tied(1);
  options.wide = true;
  options.train.save_steps = 1;
  train_on(1, options, plain.path());
  train_on(3, with_stage(options, 1), folder.path());
  const int64_t all = moment_elements(plain / "checkpoint-1/state.safetensors");
  int64_t sum = 0;
  for (int64_t rank = 0; rank < 3; ++rank) {
    const int64_t own = moment_elements(folder / "checkpoint-1" / moment_file_name(rank, 3));
    EXPECT_NEAR(static_cast<double>(own), static_cast<double>(all) / 3, 600) << "rank " << rank;
    sum += own;
  }
  EXPECT_EQ(sum, all);
  EXPECT_EQ(moment_elements(folder / "checkpoint-1/state.safetensors"), 0);
}

void expect_same_checkpoint(const fs::path& ours, const fs::path& theirs) {
  for (const auto& entry : fs::directory_iterator(theirs)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".safetensors")) continue;
    EXPECT_TRUE(read_file(ours / name) == read_file(theirs / name)) << name;
  }
}

TEST(Sharding, ResumeAtTheSameSizeIsBitExact) {
  for (const int64_t stage : {0, 1, 2}) {
    SCOPED_TRACE(cat("stage ", stage));
    const TempFolder straight, stopped;
    TinyOptions options = with_stage(global_steps(8), stage);
    options.dropout = 0.1;
    options.train.save_steps = 4;
    train_on(3, options, straight.path());
    TinyOptions first = options;
    first.train.stop_at_step = 4;
    train_on(3, first, stopped.path(), kRankStopped);
    train_on(3, options, stopped.path(), 0, stopped / "checkpoint-4");
    expect_same_checkpoint(stopped / "checkpoint-8", straight / "checkpoint-8");
  }
}

void expect_resumed(const TinyOptions& options, int64_t ranks, int64_t stage, int64_t then_ranks,
                    int64_t then_stage, const fs::path& straight) {
  SCOPED_TRACE(cat(ranks, " ranks, stage ", stage, " -> ", then_ranks, ", stage ", then_stage));
  const TempFolder folder;
  TinyOptions first = with_stage(options, stage);
  first.train.stop_at_step = 4;
  train_on(ranks, first, folder.path(), kRankStopped);
  verify_manifest(folder / "checkpoint-4", /*deep=*/true);
  train_on(then_ranks, with_stage(options, then_stage), folder.path(), 0, folder / "checkpoint-4");
  expect_same_losses(folder.path(), straight);
}

TEST(Sharding, ResumesAtAnotherSizeAndStage) {
  for (const TinyOptions& options : {global_steps(8), whole_and_tied(8)}) {
    const TempFolder straight;
    train_on(1, options, straight.path());
    expect_resumed(options, 2, 1, 3, 1, straight.path());
    expect_resumed(options, 2, 2, 1, 2, straight.path());
    expect_resumed(options, 3, 2, 2, 0, straight.path());
    expect_resumed(options, 1, 0, 3, 2, straight.path());
    expect_resumed(options, 3, 1, 1, 0, straight.path());
  }
}

// A weight of rank 1 is broken for one step: no rank applies it, whoever holds what.
TEST(Sharding, WhatIsNotFiniteOnOneRankIsAppliedOnNone) {
  const TempFolder plain, sharded;
  for (const int64_t stage : {0, 2}) {
    ForkedRanks ranks(2, [&](const RankEnvironment& environment) {
      TinyOptions options = with_stage(global_steps(6), stage);
      options.train.max_nonfinite_steps = 2;
      TinyRun* run = nullptr;
      if (environment.rank == 1) {
        options.before_step = [&run](int64_t step) {
          if (step == 3) run->model().norm[3] = std::nan("");
          if (step == 4) run->model().norm.fill_(1);
        };
      }
      ProcessGroup group(environment, at::kCPU, kRankTimeout);
      options.group = &group;
      TinyRun made(options, stage == 0 ? plain.path() : sharded.path());
      run = &made;
      made.trainer().run();
      return static_cast<int>(made.trainer().state().updates);
    });
    EXPECT_EQ(ranks.codes(), (std::vector<int>{5, 5})) << "stage " << stage;
  }
  const auto ours = read_log(sharded.path()), theirs = read_log(plain.path());
  ASSERT_EQ(ours.size(), 6u);
  EXPECT_EQ(ours[3]["nonfinite_steps"], 1);
  const double last = theirs[5]["loss"];
  EXPECT_NEAR(ours[5]["loss"].get<double>(), last, 1e-5 * last);
}

// Rank 1 may write no more than 1000 bytes a file: its part can't be saved, so there is no checkpoint, and the
// run goes on.
TEST(Sharding, APartThatCannotBeWrittenMakesNoCheckpoint) {
  const TempFolder folder;
  ForkedRanks ranks(2, [&](const RankEnvironment& environment) {
    if (environment.rank == 1) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{1000, 1000};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    TinyOptions options = with_stage(global_steps(6), 1);
    options.train.save_steps = 2;
    return train_rank(environment, options, folder.path());
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
  EXPECT_EQ(read_log(folder.path()).size(), 6u);
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("checkpoint")) << entry.path();
  }
}

TEST(Sharding, RanksThatDoNotShareAFolderSaveNothing) {
  const TempFolder first, second;
  ForkedRanks ranks(2, [&](const RankEnvironment& environment) {
    TinyOptions options = with_stage(global_steps(4), 1);
    options.train.save_steps = 2;
    return train_rank(environment, options, (environment.rank == 0 ? first : second).path());
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
  EXPECT_EQ(read_log(first.path()).size(), 4u);
  EXPECT_TRUE(list_checkpoints(first.path()).empty());
  EXPECT_TRUE(fs::is_empty(second.path()));
}

TEST(Sharding, TheBestModelIsLoadedFromItsCheckpoint) {
  const TempFolder plain, sharded;
  for (const int64_t stage : {0, 2}) {
    TinyOptions options = with_stage(global_steps(6), stage);
    options.held_out_rows = 6;
    options.train.eval_steps = 2;
    options.train.load_best_model_at_end = true;
    train_on(2, options, stage == 0 ? plain.path() : sharded.path());
  }
  const auto ours = list_checkpoints(sharded.path()), theirs = list_checkpoints(plain.path());
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_FALSE(ours.empty());
  EXPECT_EQ(ours.back().step, theirs.back().step);
}

// Codes and scales of whole blocks, whoever holds them; a resume on other ranks puts them together.
TEST(Sharding, EightBitMomentsAreDividedAtTheirBlocks) {
  TinyOptions options = whole_and_tied(4);
  options.wide = true;
  options.train.optim = "adamw_8bit";
  const TempFolder plain;
  train_on(1, options, plain.path());
  for (const int64_t ranks : {1, 2, 3}) {
    const TempFolder folder;
    train_on(ranks, with_stage(options, 2), folder.path());
    const auto ours = read_log(folder.path()), theirs = read_log(plain.path());
    for (size_t i = 0; i < theirs.size(); ++i) {
      const double loss = theirs[i]["loss"];
      EXPECT_NEAR(ours[i]["loss"].get<double>(), loss, 1e-4 * loss) << ranks << " ranks, " << i;
    }
  }
  const TempFolder resumed;
  TinyOptions first = with_stage(options, 1);
  first.train.stop_at_step = 2;
  train_on(3, first, resumed.path(), kRankStopped);
  train_on(2, with_stage(options, 1), resumed.path(), 0, resumed / "checkpoint-2");
  const double loss = read_log(plain.path()).back()["loss"];
  EXPECT_NEAR(read_log(resumed.path()).back()["loss"].get<double>(), loss, 1e-4 * loss);
}

TEST(Sharding, SavesInTheBackgroundAndLeavesNothingOver) {
  const TempFolder folder;
  TinyOptions options = with_stage(global_steps(6), 2);
  options.train.save_steps = 1;
  options.train.save_total_limit = 3;
  train_on(3, options, folder.path());
  const auto saved = list_checkpoints(folder.path());
  ASSERT_EQ(saved.size(), 3u);
  for (const CheckpointEntry& entry : saved) {
    verify_manifest(entry.path, /*deep=*/true);
    EXPECT_EQ(manifest_files(entry.path).size(), 9u) << entry.path;  // 3 of moments
  }
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    EXPECT_FALSE(entry.path().string().ends_with(".partial")) << entry.path();
  }
}

}  // namespace
}  // namespace llama2zh
