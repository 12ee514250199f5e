// Optimizer groups, 8-bit moments, NEFTune, rows that train alone, frozen names: in steps and over a
// resume.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "kernels/tensor_checks.h"
#include "llama2zh/train/adamw.h"
#include "llama2zh/train/step.h"
#include "train/parameter_plan.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

TEST(ParameterRules, RatesByNameAndDecayApart) {
  AdamWOptions options;
  options.weight_decay = 0.1;
  options.loraplus_lr_ratio = 16;
  options.embedding_lr_factor = 0.5;
  const auto rule = [&](const char* name) { return parameter_rule(name, options); };
  EXPECT_EQ(rule("model.layers.0.mlp.up_proj.lora_A.weight"), (ParameterRule{1, 0.1}));
  EXPECT_EQ(rule("model.layers.0.mlp.up_proj.lora_B.weight"), (ParameterRule{16, 0.1}));
  EXPECT_EQ(rule("model.layers.0.mlp.up_proj.lora_magnitude_vector"), (ParameterRule{16, 0.1}));
  EXPECT_EQ(rule("model.embed_tokens.weight"), (ParameterRule{0.5, 0.1}));
  EXPECT_EQ(rule("lm_head.weight"), (ParameterRule{0.5, 0.1}));
  EXPECT_EQ(rule("model.layers.0.input_layernorm.weight"), (ParameterRule{1, 0}));
}

TEST(DynamicMap, HasBitsandbytesValues) {
  const at::Tensor is_signed = dynamic_map(true), is_unsigned = dynamic_map(false);
  ASSERT_EQ(is_signed.size(0), 256);
  ASSERT_EQ(is_unsigned.size(0), 256);
  EXPECT_FLOAT_EQ(is_signed[0].item<float>(), -0.9929687F);
  EXPECT_FLOAT_EQ(is_signed[127].item<float>(), 0);
  EXPECT_FLOAT_EQ(is_signed[128].item<float>(), 5.5e-7F);
  EXPECT_FLOAT_EQ(is_signed[254].item<float>(), 0.9929687F);
  EXPECT_FLOAT_EQ(is_signed[255].item<float>(), 1);
  EXPECT_FLOAT_EQ(is_unsigned[0].item<float>(), 0);
  EXPECT_FLOAT_EQ(is_unsigned[1].item<float>(), 3.25e-7F);
  EXPECT_FLOAT_EQ(is_unsigned[254].item<float>(), 0.99648434F);
  EXPECT_TRUE((is_signed.narrow(0, 1, 255) - is_signed.narrow(0, 0, 255)).gt(0).all().item<bool>());
}

TEST(QuantizedMoment, KeepsValuesWithinAStepOfTheMap) {
  const int64_t count = 1000;  // the last block is not whole
  QuantizedMoment moment(count, true, at::kCPU);
  EXPECT_EQ(moment.load(0, count).abs().max().item<double>(), 0);
  const at::Tensor values = at::randn({count}) * at::linspace(-6, 0, count).exp();
  moment.store(0, values);
  const at::Tensor got = moment.load(0, count);
  // Neighbours of the map are at most 0.9 / 64 apart, relative to the block's largest value.
  for (int64_t begin = 0; begin < count; begin += QuantizedMoment::kBlock) {
    const int64_t size = std::min(QuantizedMoment::kBlock, count - begin);
    const double largest = values.narrow(0, begin, size).abs().max().item<double>();
    const at::Tensor error = (got - values).narrow(0, begin, size).abs();
    EXPECT_LE(error.max().item<double>(), largest * 0.9 / 64 / 2 * 1.01) << begin;
  }
  const at::Tensor before = moment.codes().clone();
  moment.store(0, got);  // what was decoded encodes to itself
  EXPECT_TRUE(moment.codes().equal(before));
  moment.store(256, at::randn({256}) * 0);
  EXPECT_EQ(moment.load(256, 256).abs().max().item<double>(), 0);
}

TEST(QuantizedMoment, RoundsAtTheMiddles) {
  for (const bool is_signed : {false, true}) {
    const at::Tensor map = dynamic_map(is_signed);
    const at::Tensor middles = (map.narrow(0, 0, 255) + map.narrow(0, 1, 255)) / 2;
    const at::Tensor one = at::ones({1});
    for (const at::Tensor& values :
         {at::cat({middles, one}), at::cat({middles.nextafter(one), one}),
          at::cat({middles.nextafter(-one), one}), map}) {
      QuantizedMoment moment(256, is_signed, at::kCPU);
      moment.store(0, values);
      EXPECT_TRUE(moment.codes().equal(at::bucketize(values, middles).to(at::kByte))) << is_signed;
    }
  }
}

// One matrix of 80 x 96 towards a target, with the noise of small batches.
double distance_after(bool eight_bit, int64_t steps) {
  at::manual_seed(4);
  const at::Tensor target = at::randn({80, 96});
  at::Tensor weight = at::randn({80, 96}).requires_grad_(true);
  AdamWOptions options;
  options.eight_bit = eight_bit;
  AdamW optimizer({{"w", weight}}, options);
  for (int64_t step = 0; step < steps; ++step) {
    weight.mutable_grad() = (weight.detach() - target) + at::randn({80, 96}) * 0.5;
    optimizer.step(0.02, 2);
    optimizer.zero_grad();
  }
  return (weight.detach() - target).norm().item<double>();
}

TEST(AdamW8Bit, FollowsFloat32) {
  const double start = distance_after(false, 0);
  const double exact = distance_after(false, 150), small = distance_after(true, 150);
  EXPECT_LT(exact, 0.2 * start);
  EXPECT_NEAR(small, exact, 0.05 * exact);
  EXPECT_NE(small, exact);
}

TEST(AdamW8Bit, SmallTensorsStayFloat32) {
  AdamWOptions options;
  options.eight_bit = true;
  const AdamW optimizer({{"big", at::randn({64, 64}).requires_grad_(true)},
                         {"small", at::randn({64, 63}).requires_grad_(true)}},
                        options);
  const auto state = optimizer.state();
  ASSERT_EQ(state.size(), 6u);
  EXPECT_EQ(state[0].first, "exp_avg.big");
  EXPECT_EQ(state[0].second.scalar_type(), at::kByte);
  EXPECT_EQ(state[1].first, "exp_avg.big.absmax");
  EXPECT_EQ(state[1].second.size(0), 16);
  EXPECT_EQ(state[4].first, "exp_avg.small");
  EXPECT_EQ(state[4].second.scalar_type(), at::kFloat);
}

TEST(Neftune, NoiseIsUniformWithinTheBoundOfItsSequence) {
  const auto model = random_model(tiny_model_config(), 7, at::kFloat, at::kCPU);
  for (DecoderLayer& layer : model->layers) {  // layers that add nothing
    layer.self_attn.o_proj.weight.zero_();
    layer.mlp.down_proj.weight.zero_();
  }
  const at::Tensor ids = at::arange(40, at::kLong);
  const auto hidden = [&](double alpha, bool training) {
    PackedSequences context({0, 10, 40}, at::kCPU);
    return model->forward(ids, context, {.training = training, .neftune_noise_alpha = alpha});
  };
  EXPECT_TRUE(hidden(5, false).equal(hidden(0, true)));
  // The final norm hides the scale: look at the embeddings' change through a weight of the rms.
  const at::Tensor x = model->embed_tokens.index_select(0, ids);
  model->config.rms_norm_eps = 1e12;  // n = x * 1e-6
  std::vector<at::Tensor> draws;
  for (int i = 0; i < 50; ++i) draws.push_back(hidden(5, true) * 1e6 - x);
  double largest_short = 0, largest_long = 0, squares = 0;
  for (const at::Tensor& noise : draws) {
    largest_short = std::max(largest_short, noise.narrow(0, 0, 10).abs().max().item<double>());
    largest_long = std::max(largest_long, noise.narrow(0, 10, 30).abs().max().item<double>());
    squares += noise.narrow(0, 10, 30).square().mean().item<double>() / 50;
  }
  const double bound_short = 5 / std::sqrt(10.0 * 16), bound_long = 5 / std::sqrt(30.0 * 16);
  EXPECT_LE(largest_short, bound_short * 1.001);
  EXPECT_GT(largest_short, bound_short * 0.99);
  EXPECT_LE(largest_long, bound_long * 1.001);
  EXPECT_GT(largest_long, bound_long * 0.99);
  EXPECT_NEAR(std::sqrt(squares), bound_long / std::sqrt(3.0), 0.01 * bound_long);
}

TinyOptions method_options() {
  TinyOptions options;
  options.train = tiny_trainer_config();
  options.train.max_steps = 6;
  return options;
}

// Train on from step 3 in a second process' stead, and compare every bit with the run in one piece.
void expect_exact_resume(const TinyOptions& options) {
  const TempFolder whole_folder, halves_folder;
  TinyRun whole(options, whole_folder.path());
  EXPECT_EQ(whole.trainer().run(), TrainOutcome::kFinished);
  TinyOptions first = options;
  first.train.stop_at_step = 3;
  TinyRun begun(first, halves_folder.path());
  EXPECT_EQ(begun.trainer().run(), TrainOutcome::kStopped);
  TinyRun resumed(options, halves_folder.path());
  const fs::path checkpoint = halves_folder.path() / "checkpoint-3";
  resumed.trainer().resume(checkpoint, read_training_state(checkpoint));
  EXPECT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
  auto expected = whole.everything(), got = resumed.everything();
  ASSERT_EQ(expected.size(), got.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(bit_equal(expected[i].second, got[i].second)) << expected[i].first;
  }
}

TEST(MethodResume, DoraWithDropoutNeftuneAndRows) {
  TinyOptions options = method_options();
  options.lora.use_dora = true;
  options.lora.rank_pattern = {"up_proj=7"};
  options.dropout = 0.2;
  options.scope.first_trained_row = 20;
  options.train.neftune_noise_alpha = 5;
  options.train.label_smoothing_factor = 0.1;
  options.train.z_loss = 1e-3;
  expect_exact_resume(options);
}

TEST(MethodResume, EightBitFullTrainingOfSomeRowsAndLayers) {
  TinyOptions options = method_options();
  options.full = true;
  options.wide = true;
  options.scope.first_trained_row = 8;
  options.scope.freeze = {"model.layers.0.*"};
  options.train.optim = "adamw_8bit";
  expect_exact_resume(options);
}

TEST(MethodStep, RowsTrainAsIfTheOthersGradientsWereZero) {
  const TempFolder folder;
  TinyOptions options = method_options();
  options.train.weight_decay = 0;
  options.train.max_grad_norm = 0;
  TinyRun all(options, folder.path());
  options.scope.first_trained_row = 20;
  TinyRun some(options, folder.path());
  const at::Tensor frozen = some.model().embed_tokens.clone();
  StepRunner a(all.model(), options.train, 10), b(some.model(), options.train, 10);
  for (int64_t step = 1; step < 4; ++step) {
    // The same start for both: the rows below 20 of `all` are put back after each step.
    a.run(step, {all.loader().batch(0, step)});
    b.run(step, {some.loader().batch(0, step)});
    const at::NoGradGuard no_grad;
    const auto original = random_model(tiny_model_config(), 7, at::kFloat, at::kCPU);
    all.model().embed_tokens.narrow(0, 0, 20).copy_(original->embed_tokens.narrow(0, 0, 20));
    all.model().lm_head.weight.narrow(0, 0, 20).copy_(original->lm_head.weight.narrow(0, 0, 20));
  }
  const auto whole = trained_parameters(all.model()), rows = trained_parameters(some.model());
  ASSERT_EQ(whole.size(), rows.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    const at::Tensor expected =
        whole[i].tensor.detach().narrow(0, rows[i].first_row, rows[i].tensor.size(0));
    EXPECT_LT(testing::max_difference(rows[i].tensor, expected), 1e-5) << rows[i].name;
  }
  EXPECT_TRUE(some.model().embed_tokens.equal(frozen));
}

TEST(MethodStep, AnEmbeddingRateNeedsOneToBeAShareOf) {
  const TempFolder folder;
  TinyOptions options = method_options();
  options.train.learning_rate = 0;
  options.train.embedding_learning_rate = 1e-3;
  const std::string text =
      error_text_of(ErrorKind::kUsage, [&] { TinyRun run(options, folder.path()); });
  EXPECT_NE(text.find("embedding_learning_rate"), std::string::npos) << text;
}

TEST(PlannedParameters, AreThoseThatTrain) {
  RunConfig run;
  run.lora.rank = 4;
  run.lora.use_dora = true;
  run.lora.rank_pattern = {"up_proj=7"};
  run.train.first_trained_row = 20;
  run.train.freeze = {".*q_proj.lora_A.weight"};
  const auto model = random_model(tiny_model_config(), 7, at::kFloat, at::kCPU);
  inject_lora(*model, run.lora, 1, {run.train.first_trained_row, run.train.freeze});
  std::map<std::string, int64_t> planned, real;
  for (const auto& p : planned_parameters(tiny_model_config(), run)) planned[p.name] = p.elements;
  for (const auto& p : trained_parameters(*model)) real[p.name] = p.tensor.numel();
  EXPECT_EQ(planned, real);
  run.method = "full";
  run.train.freeze = {"model.layers.0.*", "lm_head.weight"};
  train_all_parameters(*model, {run.train.first_trained_row, run.train.freeze});
  planned.clear();
  real.clear();
  for (const auto& p : planned_parameters(tiny_model_config(), run)) planned[p.name] = p.elements;
  for (const auto& p : trained_parameters(*model)) real[p.name] = p.tensor.numel();
  EXPECT_EQ(planned, real);
}

TEST(PlannedParameters, MomentsOf8BitsAreAQuarter) {
  const std::vector<PlannedParameter> parameters = {{"w", 1 << 20}};
  TrainerConfig config;
  EXPECT_EQ(optimizer_bytes(parameters, config), 8u << 20);
  config.optim = "adamw_8bit";
  EXPECT_EQ(optimizer_bytes(parameters, config), (2u << 20) + 2 * 4 * 4096u);
}

}  // namespace
}  // namespace llama2zh
