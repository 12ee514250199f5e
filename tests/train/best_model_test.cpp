// The best model and early stopping; tests/oracles/trainer_state_oracle.py replays a run with
// transformers' own callback.
#include "llama2zh/train/best_model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

TrainerConfig patient(int64_t patience, double threshold) {
  TrainerConfig config = tiny_trainer_config();
  config.eval_steps = 2;
  config.early_stopping_patience = patience;
  config.early_stopping_threshold = threshold;
  return config;
}

TEST(BestModel, CountsEvaluationsWithoutProgress) {
  const BestModelRule rule(patient(3, 0.01), {"zh"});
  BestModel best;
  const std::vector<std::pair<double, int64_t>> losses = {{5, 0},   {4, 0},   {4.2, 1}, {3.995, 2},
                                                          {3.9, 0}, {NAN, 1}, {3.9, 2}, {4, 3}};
  int64_t step = 0;
  for (const auto& [loss, without] : losses) {
    EXPECT_FALSE(rule.gives_up(best));
    rule.update(best, loss, ++step);
    EXPECT_EQ(best.without_improvement, without) << "evaluation " << step;
  }
  EXPECT_TRUE(rule.gives_up(best));
  EXPECT_EQ(best.step, 5);
  EXPECT_EQ(*best.loss, 3.9);
}

TEST(BestModel, MetricIsOneSetOrTheMean) {
  const std::vector<EvalResult> results = {{.name = "zh", .loss = 2}, {.name = "en", .loss = 4}};
  TrainerConfig config = patient(1, 0);
  EXPECT_EQ(BestModelRule(config, {"zh", "en"}).metric(results), 3);
  config.metric_for_best_model = "eval_en_loss";
  EXPECT_EQ(BestModelRule(config, {"zh", "en"}).metric(results), 4);
  config.metric_for_best_model = "eval_ne_loss";
  const std::string text = error_text_of(ErrorKind::kUsage, [&] {
    BestModelRule(config, {"zh", "en"});
  });
  EXPECT_NE(text.find("eval_en_loss"), std::string::npos) << text;
}

TEST(BestModel, NeedsEvaluations) {
  TrainerConfig config = patient(1, 0);
  error_text_of(ErrorKind::kUsage, [&] { BestModelRule(config, {}); });
  config.eval_steps = 0;
  error_text_of(ErrorKind::kUsage, [&] { BestModelRule(config, {"zh"}); });
  config.early_stopping_patience = 0;
  BestModelRule(config, {});
  config.load_best_model_at_end = true;
  error_text_of(ErrorKind::kUsage, [&] { BestModelRule(config, {"zh"}); });
}

// Learns the training rows by heart, so that the held-out loss soon rises.
TinyOptions overfitting() {
  TinyOptions options;
  options.full = true;
  options.held_out_rows = 30;
  options.train = patient(3, 0);
  options.train.max_steps = 100;
  options.train.learning_rate = 3e-2;
  options.train.weight_decay = 0;
  options.train.save_steps = 5;
  options.train.save_total_limit = 1;
  options.train.load_best_model_at_end = true;
  return options;
}

TEST(BestModel, IsKeptAndBecomesTheResult) {
  const TempFolder folder;
  TinyRun run(overfitting(), folder.path());
  EXPECT_EQ(run.trainer().run(), TrainOutcome::kFinished);
  const TrainingState& state = run.trainer().state();
  EXPECT_LT(state.step, 100);
  EXPECT_EQ(state.best.without_improvement, 3);
  EXPECT_EQ(state.step, state.best.step + 6);
  EXPECT_EQ(run.trainer().result_step(), state.best.step);
  const fs::path best = folder / cat("checkpoint-", state.best.step);
  verify_manifest(best, /*deep=*/true);
  EXPECT_LE(list_checkpoints(folder.path()).size(), 2u);  // the best and the newest
  ASSERT_EQ(run.trainer().last_evaluation().size(), 1u);
  EXPECT_EQ(run.trainer().last_evaluation()[0].loss, *state.best.loss);
  const auto weights = open_tensors(best);
  for (const NamedParameter& parameter : trained_parameters(run.model())) {
    EXPECT_TRUE(bit_equal(weights->load(parameter.name), parameter.tensor.detach()))
        << parameter.name;
  }
  const json written = read_json_file(folder / "trainer_state.json");
  EXPECT_EQ(written["best_global_step"], state.best.step);
  EXPECT_EQ(written["best_metric"].get<double>(), *state.best.loss);
  EXPECT_EQ(written["best_model_checkpoint"], best.string());
}

TEST(BestModel, SurvivesAStop) {
  const TempFolder straight_folder, folder;
  TinyRun straight(overfitting(), straight_folder.path());
  straight.trainer().run();
  TinyOptions options = overfitting();
  options.train.stop_at_step = straight.trainer().state().best.step + 3;
  {
    TinyRun first(options, folder.path());
    ASSERT_EQ(first.trainer().run(), TrainOutcome::kStopped);
  }
  TinyRun resumed(overfitting(), folder.path());
  const auto newest = newest_valid_checkpoint(folder.path());
  resumed.trainer().resume(newest->path, read_training_state(newest->path));
  EXPECT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
  EXPECT_EQ(resumed.trainer().state().step, straight.trainer().state().step);
  EXPECT_EQ(resumed.trainer().result_step(), straight.trainer().result_step());
  const auto ours = resumed.everything(), theirs = straight.everything();
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(bit_equal(ours[i].second, theirs[i].second)) << ours[i].first;
  }
}

TEST(BestModel, DamagedBestCheckpointIsAnErrorButTheLastStepIsSaved) {
  const TempFolder folder;
  TinyOptions options = overfitting();
  options.train.save_in_background = false;
  int64_t damaged = 0;
  TinyRun* running = nullptr;
  options.before_step = [&](int64_t step) {
    const BestModel& best = running->trainer().state().best;
    if (damaged > 0 || best.without_improvement < 2) return;
    damaged = best.checkpoint;
    fs::resize_file(folder / cat("checkpoint-", damaged) / "state.safetensors", 100);
    EXPECT_LT(damaged, step);
  };
  TinyRun run(options, folder.path());
  running = &run;
  const std::string text = error_text_of(ErrorKind::kFormat, [&] { run.trainer().run(); });
  EXPECT_NE(text.find(cat("checkpoint-", damaged)), std::string::npos) << text;
  verify_manifest(folder / cat("checkpoint-", run.trainer().state().step), /*deep=*/true);
}

}  // namespace
}  // namespace llama2zh
