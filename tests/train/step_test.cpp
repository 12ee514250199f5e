// What one optimizer step computes: packing, checkpointing, frozen weights, weights of the loss.
#include "llama2zh/train/step.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/temp_folder.h"
#include "llama2zh/kernels/linear_cross_entropy.h"
#include "llama2zh/model/load.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

std::vector<double> losses_of(const TinyOptions& options) {
  const TempFolder folder;
  TinyRun run(options, folder.path());
  run.trainer().run();
  std::vector<double> losses;
  for (const json& line : read_log(folder.path())) losses.push_back(line["loss"]);
  return losses;
}

TinyOptions ten_steps() {
  TinyOptions options;
  options.train = tiny_trainer_config();
  options.train.max_steps = 10;
  return options;
}

PackedBatch one_sequence(const PackedBatch& packed, size_t index) {
  PackedBatch single;
  const int64_t begin = packed.boundaries[index], end = packed.boundaries[index + 1];
  single.ids = packed.ids.slice(0, begin, end);
  single.labels = packed.labels.slice(0, begin, end);
  single.boundaries = {0, end - begin};
  single.supervised = single.labels.ge(0).sum().item<int64_t>();
  return single;
}

TEST(Step, PackedEqualsRowByRow) {
  const TempFolder folder;
  TinyOptions options = ten_steps();
  options.micro_batch_size = 3;
  TinyRun packed(options, folder.path()), single(options, folder.path());
  const PackedBatch batch = packed.loader().batch(0, 0);
  ASSERT_GT(batch.boundaries.size(), 4u);
  std::vector<PackedBatch> rows;
  for (size_t i = 0; i + 1 < batch.boundaries.size(); ++i) rows.push_back(one_sequence(batch, i));
  StepRunner a(packed.model(), options.train, 10), b(single.model(), options.train, 10);
  for (int64_t step = 0; step < 5; ++step) {
    const StepResult together = a.run(step, {batch}), apart = b.run(step, rows);
    EXPECT_EQ(together.supervised, apart.supervised);
    EXPECT_NEAR(together.loss, apart.loss, 1e-5 * apart.loss);
    EXPECT_NEAR(together.grad_norm, apart.grad_norm, 1e-4 * apart.grad_norm);
  }
}

TEST(Step, CheckpointingChangesNoLossEvenWithDropout) {
  TinyOptions options = ten_steps();
  options.dropout = 0.2;
  const auto plain = losses_of(options);
  options.train.gradient_checkpointing = true;
  EXPECT_EQ(losses_of(options), plain);
}

TEST(Step, LossFallsAndDropoutMatters) {
  const auto plain = losses_of(ten_steps());
  EXPECT_LT(plain.back(), plain.front());
  TinyOptions options = ten_steps();
  options.dropout = 0.5;
  EXPECT_NE(losses_of(options), plain);
}

TEST(Step, FrozenWeightsStayAndTrainedOnesMove) {
  const TempFolder folder;
  TinyRun run(ten_steps(), folder.path());
  const auto fresh = random_model(tiny_model_config(), 7, at::kFloat, at::kCPU);
  std::map<std::string, at::Tensor> before;
  fresh->for_each_weight([&](const std::string& name, at::Tensor& w) { before[name] = w; });
  run.trainer().run();
  run.model().for_each_weight([&](const std::string& name, at::Tensor& weight) {
    const bool trained = name == "model.embed_tokens.weight" || name == "lm_head.weight";
    EXPECT_EQ(weight.requires_grad(), trained) << name;
    EXPECT_EQ(bit_equal(weight.detach(), before.at(name)), !trained) << name;
    EXPECT_FALSE(weight.grad().defined()) << name;
  });
  run.model().for_each_projection([&](const std::string& name, Linear& linear) {
    EXPECT_GT(linear.lora->b.detach().abs().max().item<double>(), 0) << name;
  });
}

TEST(Step, BothReductionsAsDefined) {
  const TempFolder folder;
  TinyOptions options = ten_steps();
  TinyRun run(options, folder.path());
  const std::vector<PackedBatch> batches = {run.loader().batch(0, 0), run.loader().batch(0, 1)};
  ASSERT_NE(batches[0].supervised, batches[1].supervised);
  const double a = summed_loss(run.model(), batches[0], 64), n = batches[0].supervised;
  const double b = summed_loss(run.model(), batches[1], 64), m = batches[1].supervised;
  StepRunner token(run.model(), options.train, 10);
  EXPECT_NEAR(token.run(0, batches).loss, (a + b) / (n + m), 1e-6);  // step 0 has rate 0
  options.train.loss_reduction = "micro_batch_mean";
  StepRunner mean(run.model(), options.train, 10);
  EXPECT_NEAR(mean.run(0, batches).loss, (a / n + b / m) / 2, 1e-6);
}

TEST(Step, ClippingBoundsWhatReachesTheOptimizer) {
  const TempFolder folder;
  TinyOptions options = ten_steps();
  options.train.max_grad_norm = 1e-3;
  TinyRun run(options, folder.path());
  StepRunner runner(run.model(), options.train, 10);
  const StepResult result = runner.run(1, {run.loader().batch(0, 0)});
  ASSERT_GT(result.grad_norm, 1e-3);
  double squares = 0;
  for (const HeldMoment& moment : runner.optimizer().state()) {
    if (!moment.name.starts_with("exp_avg.")) continue;
    squares += moment.values.square().sum().item<double>();
  }
  EXPECT_NEAR(std::sqrt(squares), 0.1 * 1e-3, 1e-6);  // (1 - beta1) times the clipped gradient
}

TEST(Step, NothingSupervisedChangesNothing) {
  const TempFolder folder;
  TinyRun run(ten_steps(), folder.path());
  PackedBatch batch = run.loader().batch(0, 0);
  batch.labels = batch.labels.clone().fill_(-100);
  batch.supervised = 0;
  StepRunner runner(run.model(), tiny_trainer_config(), 10);
  const StepResult result = runner.run(3, {batch});
  EXPECT_TRUE(result.skipped);
  EXPECT_TRUE(result.finite);
  EXPECT_EQ(runner.optimizer().updates(), 0);
}

TEST(LossScaling, HalvesOnOverflowAndDoublesAfterTwoThousandSteps) {
  LossScale scale{65536, 0, true};
  scale.update(true);
  EXPECT_EQ(scale.scale, 32768);
  for (int i = 0; i < 1999; ++i) scale.update(false);
  EXPECT_EQ(scale.scale, 32768);
  scale.update(false);
  EXPECT_EQ(scale.scale, 65536);
}

}  // namespace
}  // namespace llama2zh
