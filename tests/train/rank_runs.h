#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "distributed/ranks.h"
#include "llama2zh/base/file.h"
#include "llama2zh/distributed/process_group.h"
#include "train/rank_random.h"
#include "train/tiny_run.h"

namespace llama2zh {

inline constexpr auto kRankTimeout = std::chrono::seconds(40);
inline constexpr int64_t kMicroBatches = 6;  // of a step, over all ranks
inline constexpr int kRankStopped = 10;      // exit code

inline TinyOptions global_steps(int64_t count) {
  TinyOptions options;
  options.train = tiny_trainer_config();
  options.train.max_steps = count;
  return options;
}

// What each rank of a run does; `resume_from` may be empty.
inline int train_rank(const RankEnvironment& environment, TinyOptions options,
                      const fs::path& folder, const fs::path& resume_from = {}) {
  std::unique_ptr<ProcessGroup> group;
  if (environment.distributed()) {
    group = std::make_unique<ProcessGroup>(environment, at::kCPU, kRankTimeout);
  }
  options.group = group.get();
  options.train.gradient_accumulation_steps = kMicroBatches / environment.world_size;
  TinyRun run(options, folder);
  if (environment.rank != 0) seed_rank(3, environment.rank);
  if (!resume_from.empty()) run.trainer().resume(resume_from, read_training_state(resume_from));
  const TrainOutcome outcome = run.trainer().run();
  if (group) group->barrier("the end");
  return outcome == TrainOutcome::kStopped ? kRankStopped : 0;
}

inline void train_on(int64_t ranks, const TinyOptions& options, const fs::path& folder,
                     int expected = 0, const fs::path& resume_from = {}) {
  ForkedRanks run(ranks, [&](const RankEnvironment& environment) {
    return train_rank(environment, options, folder, resume_from);
  });
  ASSERT_EQ(run.codes(), std::vector<int>(static_cast<size_t>(ranks), expected));
}

inline void expect_same_losses(const fs::path& folder, const fs::path& expected) {
  const auto ours = read_log(folder), theirs = read_log(expected);
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_FALSE(ours.empty());
  for (size_t i = 0; i < ours.size(); ++i) {
    const double loss = theirs[i]["loss"];
    EXPECT_NEAR(ours[i]["loss"].get<double>(), loss, 1e-5 * loss) << "line " << i;
    const double norm = theirs[i]["grad_norm"];
    EXPECT_NEAR(ours[i]["grad_norm"].get<double>(), norm, 1e-4 * norm) << "line " << i;
    for (const char* key : {"step", "supervised_tokens", "tokens", "epoch"}) {
      EXPECT_EQ(ours[i][key], theirs[i][key]) << key << " of line " << i;
    }
  }
}

}  // namespace llama2zh
