// The forgetting guard: a set whose loss may rise by so much.
#include "llama2zh/train/forgetting_guard.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/text.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

GuardConfig guard_of(const std::string& set, double budget = 5,
                     const std::string& action = "stop") {
  GuardConfig config;
  config.guard_set = set;
  config.guard_budget = budget;
  config.guard_action = action;
  return config;
}

TEST(ForgettingGuard, ComparesWithTheFirstEvaluation) {
  const ForgettingGuard guard(guard_of("en"), 10, {"zh", "en"});
  GuardState state;
  EXPECT_FALSE(guard.over_budget(state));
  const auto see = [&](double zh, double en) {
    guard.update(state, {{.name = "zh", .loss = zh}, {.name = "en", .loss = en}});
  };
  see(9, 2);
  EXPECT_EQ(guard.rise(state), 0);
  see(12, 2.09);
  EXPECT_NEAR(guard.rise(state), 4.5, 1e-9);
  EXPECT_FALSE(guard.stops(state));
  see(1, 2.11);
  EXPECT_TRUE(guard.stops(state));
  EXPECT_EQ(guard.describe(state),
            "en: loss 2.1100, +5.5 % of the 2.0000 at the beginning (budget 5 %)");
  see(1, 1.5);
  EXPECT_NEAR(guard.rise(state), -25, 1e-9);
  see(1, NAN);
  EXPECT_TRUE(guard.over_budget(state));
  EXPECT_FALSE(ForgettingGuard(guard_of("en", 5, "warn"), 10, {"en"}).stops(state));
}

// A run that begins to watch later, or another set, measures from there and says so.
TEST(ForgettingGuard, SaysWhereItBegan) {
  const ForgettingGuard guard(guard_of("en"), 10, {"zh", "en"});
  GuardState state;
  EXPECT_TRUE(guard.is_new(state));
  guard.begin(state, 300);
  guard.update(state, {{.name = "en", .loss = 2}});
  EXPECT_FALSE(guard.is_new(state));
  guard.update(state, {{.name = "en", .loss = 2.2}});
  EXPECT_EQ(guard.describe(state),
            "en: loss 2.2000, +10.0 % of the 2.0000 at step 300 (budget 5 %)");
  const ForgettingGuard other(guard_of("zh"), 10, {"zh", "en"});
  EXPECT_TRUE(other.is_new(state));
  state.set.clear();  // of an older checkpoint
  EXPECT_FALSE(other.is_new(state));
  EXPECT_FALSE(ForgettingGuard(GuardConfig{}, 0, {}).is_new(state));
}

TEST(ForgettingGuard, RefusesWhatItCannotWatch) {
  const std::string text = error_text_of(ErrorKind::kUsage, [] {
    ForgettingGuard(guard_of("en_heldot"), 10, {"zh_heldout", "en_heldout"});
  });
  EXPECT_NE(text.find("did you mean en_heldout"), std::string::npos) << text;
  error_text_of(ErrorKind::kUsage, [] { ForgettingGuard(guard_of("en"), 10, {}); });
  error_text_of(ErrorKind::kUsage, [] { ForgettingGuard(guard_of("en"), 0, {"en"}); });
  EXPECT_FALSE(ForgettingGuard(GuardConfig{}, 0, {}).watches());
}

// Training rows learnt by heart: the loss on others rises.
TinyOptions forgetting(const std::string& action) {
  TinyOptions options;
  options.full = true;
  options.held_out_rows = 30;
  options.train = tiny_trainer_config();
  static_cast<GuardConfig&>(options.train) = guard_of("held_out", 1, action);
  options.train.eval_steps = 2;
  options.train.max_steps = 40;
  options.train.learning_rate = 3e-2;
  options.train.weight_decay = 0;
  return options;
}

TEST(ForgettingGuard, EndsARunAndLeavesItsResult) {
  const TempFolder folder, warned;
  TinyRun run(forgetting("stop"), folder.path());
  EXPECT_EQ(run.trainer().run(), TrainOutcome::kFinished);
  const TrainingState& state = run.trainer().state();
  EXPECT_LT(state.step, 40);
  ASSERT_TRUE(state.guard.before && state.guard.now);
  EXPECT_GT(*state.guard.now, *state.guard.before * 1.01);
  TinyRun warning(forgetting("warn"), warned.path());
  warning.trainer().run();
  EXPECT_EQ(warning.trainer().state().step, 40);
}

TEST(ForgettingGuard, SurvivesAStop) {
  const TempFolder straight_folder, folder;
  TinyRun straight(forgetting("stop"), straight_folder.path());
  straight.trainer().run();
  const int64_t last = straight.trainer().state().step;
  ASSERT_GT(last, 2);
  TinyOptions options = forgetting("stop");
  options.train.stop_at_step = last - 1;
  {
    TinyRun first(options, folder.path());
    ASSERT_EQ(first.trainer().run(), TrainOutcome::kStopped);
  }
  TinyRun resumed(forgetting("stop"), folder.path());
  const auto newest = newest_valid_checkpoint(folder.path());
  resumed.trainer().resume(newest->path, read_training_state(newest->path));
  EXPECT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
  EXPECT_EQ(resumed.trainer().state().step, last);
  EXPECT_EQ(resumed.trainer().state().guard.before, straight.trainer().state().guard.before);
}

TEST(ForgettingGuard, BeginsOnResumeWithTheLossThere) {
  const TempFolder folder;
  TinyOptions unwatched = forgetting("stop");
  unwatched.train.guard_set.clear();
  unwatched.train.stop_at_step = 3;
  {
    TinyRun first(unwatched, folder.path());
    ASSERT_EQ(first.trainer().run(), TrainOutcome::kStopped);
  }
  TinyOptions watched = forgetting("warn");
  watched.train.max_steps = 40;
  TinyRun resumed(watched, folder.path());
  const auto newest = newest_valid_checkpoint(folder.path());
  resumed.trainer().resume(newest->path, read_training_state(newest->path));
  EXPECT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
  EXPECT_EQ(resumed.trainer().state().guard.since, 3);
  EXPECT_EQ(resumed.trainer().state().guard.set, "held_out");
}

}  // namespace
}  // namespace llama2zh
