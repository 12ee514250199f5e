// DoRA, ranks by pattern, training of the last rows alone, freezing by name.
#include <ATen/TensorOperators.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <set>

#include "llama2zh/model/lora.h"
#include "llama2zh/model/merge.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::max_difference;
using testing::relative_difference;

LoraConfig patterned_dora() {
  LoraConfig config;
  config.rank = 4;
  config.alpha = 6;
  config.use_dora = true;
  config.rank_pattern = {"up_proj=7", "layers.1.self_attn.q_proj=2"};
  config.alpha_pattern = {"v_proj=12.5"};
  return config;
}

// Values for B and the magnitudes, as training would give them.
void train_somehow(Llama& model) {
  const at::NoGradGuard no_grad;
  model.for_each_projection([](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    linear.lora->b.normal_(0, 0.3);
    if (linear.lora->magnitude.defined()) {
      linear.lora->magnitude.mul_(at::rand(linear.lora->magnitude.sizes()).add_(0.6));
    }
  });
}

testing::Batch labelled_sequence(int64_t length = 24) {
  const at::Tensor ids = at::randint(0, 97, {length}, at::kLong);
  return {ids, ids.roll(-1), {0, length}};
}

TEST(DoraModel, StartsFromTheBaseModelsFunction) {
  const auto model = testing::small_model();
  const testing::Batch batch = labelled_sequence();
  const at::Tensor before = testing::batch_logits(*model, batch);
  inject_lora(*model, patterned_dora(), 7);
  EXPECT_LT(relative_difference(testing::batch_logits(*model, batch), before), 1e-5);
}

TEST(DoraModel, SavedAndAppliedGivesTheSameLogits) {
  const auto trained = testing::small_model();
  inject_lora(*trained, patterned_dora(), 7);
  train_somehow(*trained);
  const testing::TemporaryFolder folder;
  write_peft_adapter(folder.path(), extract_adapter(*trained, patterned_dora(), "base", at::kFloat),
                     true);
  const PeftAdapter read = read_peft_adapter(folder.path());
  EXPECT_TRUE(read.config.use_dora);
  EXPECT_EQ(rank_pattern_texts(read.config), patterned_dora().rank_pattern);
  EXPECT_EQ(alpha_pattern_texts(read.config), patterned_dora().alpha_pattern);
  const testing::Batch batch = labelled_sequence();
  const at::Tensor expected = testing::batch_logits(*trained, batch).detach();
  for (const bool train : {false, true}) {
    const auto fresh = testing::small_model();
    apply_adapter(*fresh, read, train);
    EXPECT_LT(relative_difference(testing::batch_logits(*fresh, batch), expected), 1e-5) << train;
    EXPECT_EQ(trained_parameters(*fresh).size(), train ? 2u + 3 * 14 : 0u);
  }
}

TEST(DoraModel, CheckpointingReachesTheMagnitudes) {
  const auto model = testing::small_model();
  LoraConfig config = patterned_dora();
  config.modules_to_save.clear();
  inject_lora(*model, config, 7);
  train_somehow(*model);
  const testing::Batch batch = labelled_sequence();
  testing::loss_with_gradients(*model, batch, 1, {.training = true});
  const auto plain = testing::take_gradients(*model);
  testing::loss_with_gradients(*model, batch, 1,
                               {.training = true, .activation_checkpointing = true});
  for (const auto& [name, gradient] : testing::take_gradients(*model)) {
    EXPECT_LT(relative_difference(gradient, plain.at(name)), 1e-5) << name;
  }
}

TEST(DoraModel, ASecondAdapterOnTheSameMatrixIsRefused) {
  const auto model = testing::small_model();
  inject_lora(*model, patterned_dora(), 7);
  const PeftAdapter adapter = extract_adapter(*model, patterned_dora(), "base", at::kFloat);
  const auto fresh = testing::small_model();
  apply_adapter(*fresh, adapter, false);
  expect_error(ErrorKind::kUsage, "DoRA adapter and another one",
               [&] { apply_adapter(*fresh, adapter, false); });
}

TEST(DoraModel, MergedEqualsBaseAndAdapter) {
  const testing::TemporaryFolder folder;
  for (const char* name : {"base", "adapter", "merged"}) {
    std::filesystem::create_directory(folder.path() / name);
  }
  const auto model = testing::small_model();
  save_model(folder.path() / "base", *model, nullptr, {});
  inject_lora(*model, patterned_dora(), 7);
  train_somehow(*model);
  write_peft_adapter(folder.path() / "adapter",
                     extract_adapter(*model, patterned_dora(), "base", at::kFloat), true);
  MergeOptions options{
      folder.path() / "base", {folder.path() / "adapter"}, folder.path() / "merged"};
  merge_adapters(options, nullptr);
  const auto merged = load_model(open_model(options.output), at::kFloat, at::kCPU);
  const testing::Batch batch = labelled_sequence();
  EXPECT_LT(relative_difference(testing::batch_logits(*merged, batch),
                                testing::batch_logits(*model, batch)),
            1e-5);
  options.adapters.push_back(options.adapters[0]);
  expect_error(ErrorKind::kUsage, "can't be merged at once",
               [&] { merge_adapters(options, nullptr); });
}

TEST(LoraPatterns, DecideRankAndScaling) {
  const auto model = testing::small_model();
  LoraConfig config = patterned_dora();
  config.use_rslora = true;
  inject_lora(*model, config, 7);
  const DecoderLayer& first = model->layers[0];
  const DecoderLayer& second = model->layers[1];
  EXPECT_EQ(first.self_attn.q_proj.lora->a.size(0), 4);
  EXPECT_EQ(second.self_attn.q_proj.lora->a.size(0), 2);
  EXPECT_EQ(first.mlp.up_proj.lora->b.size(1), 7);
  EXPECT_DOUBLE_EQ(first.mlp.up_proj.lora->scaling, 6 / std::sqrt(7.0));
  EXPECT_DOUBLE_EQ(second.self_attn.v_proj.lora->scaling, 12.5 / 2);
}

TEST(LoraPatterns, BadOnesAreRefused) {
  const auto model = testing::small_model();
  const auto refused = [&](std::vector<std::string> ranks, const char* part) {
    LoraConfig config;
    config.rank_pattern = std::move(ranks);
    expect_error(ErrorKind::kUsage, part, [&] { inject_lora(*model, config, 1); });
  };
  refused({"q_proj"}, "PATTERN=NUMBER");
  refused({"q_proj=0"}, "above 0");
  refused({"q_proj=2.5"}, "whole rank");
  refused({"q_proj(=2"}, "not a regular expression");
  refused({"layers.7.*=2"}, "matches no module");
}

LoraConfig embeddings_only() {
  LoraConfig config;
  config.target_modules.clear();
  return config;
}

TEST(LastRows, TrainAsTheyWouldBesideFrozenOnes) {
  for (const bool tied : {false, true}) {
    const testing::Batch batch = labelled_sequence(60);
    const auto all = testing::small_model(tied), some = testing::small_model(tied);
    inject_lora(*all, embeddings_only(), 7);
    inject_lora(*some, embeddings_only(), 7, {.first_trained_row = 64});
    EXPECT_TRUE(
        testing::batch_logits(*all, batch).equal(testing::batch_logits(*some, batch).detach()));
    const at::Tensor loss = testing::loss_with_gradients(*all, batch, 1);
    EXPECT_LT(relative_difference(testing::loss_with_gradients(*some, batch, 1), loss), 1e-6);
    const auto expected = testing::take_gradients(*all);
    const auto trained = trained_parameters(*some);
    EXPECT_EQ(trained.size(), tied ? 1u : 2u);
    for (const NamedParameter& parameter : trained) {
      EXPECT_EQ(parameter.first_row, 64);
      EXPECT_EQ(parameter.tensor.size(0), 33);
      EXPECT_LT(relative_difference(parameter.tensor.grad(),
                                    expected.at(parameter.name).narrow(0, 64, 33)),
                1e-5)
          << parameter.name;
    }
  }
}

TEST(LastRows, AreSavedAsWholeMatrices) {
  const auto model = testing::small_model();
  const at::Tensor before = model->embed_tokens.clone();
  inject_lora(*model, embeddings_only(), 7, {.first_trained_row = 64});
  {
    const at::NoGradGuard no_grad;
    model->embed_tokens_rows.add_(1);
  }
  const PeftAdapter adapter = extract_adapter(*model, embeddings_only(), "base", at::kFloat);
  const at::Tensor saved = adapter.full.at("model.embed_tokens.weight");
  EXPECT_TRUE(saved.narrow(0, 0, 64).equal(before.narrow(0, 0, 64)));
  EXPECT_TRUE(saved.narrow(0, 64, 33).equal(before.narrow(0, 64, 33) + 1));
  const auto fresh = testing::small_model();
  apply_adapter(*fresh, adapter, true, {.first_trained_row = 64});
  const testing::Batch batch = labelled_sequence();
  EXPECT_TRUE(testing::batch_logits(*fresh, batch)
                  .detach()
                  .equal(testing::batch_logits(*model, batch).detach()));
  expect_error(ErrorKind::kUsage, "97 is no row",
               [&] { inject_lora(*model, embeddings_only(), 7, {.first_trained_row = 97}); });
}

std::set<std::string> trained_names(Llama& model) {
  std::set<std::string> names;
  for (const NamedParameter& parameter : trained_parameters(model)) names.insert(parameter.name);
  return names;
}

TEST(Freeze, KeepsNamedParametersFromTraining) {
  const auto model = testing::small_model();
  inject_lora(*model, LoraConfig(), 7, {.freeze = {".*lora_A.weight", "lm_head.weight"}});
  EXPECT_EQ(trained_names(*model).size(), 15u);
  EXPECT_EQ(trained_names(*model).count("lm_head.weight"), 0u);
  // What modules_to_save names is saved even so: an adapter that is continued may have brought it.
  EXPECT_EQ(extract_adapter(*model, LoraConfig(), "base", at::kFloat).full.size(), 2u);
  const auto full = testing::small_model();
  train_all_parameters(*full, {.freeze = {"model.layers.0.*", "model.embed_tokens.weight"}});
  EXPECT_EQ(trained_names(*full).size(), 11u);
  const auto none = testing::small_model();
  expect_error(ErrorKind::kUsage, "matches none of the",
               [&] { train_all_parameters(*none, {.freeze = {"layers.0"}}); });
  expect_error(ErrorKind::kUsage, "not a regular expression",
               [&] { train_all_parameters(*none, {.freeze = {"("}}); });
}

}  // namespace
}  // namespace llama2zh
