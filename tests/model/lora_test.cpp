#include "llama2zh/model/lora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::max_difference;

LoraConfig attention_only() {
  LoraConfig config;
  config.rank = 4;
  config.alpha = 6;
  config.target_modules = {"q_proj", "v_proj"};
  return config;
}

// Gives every B values, as training would.
void fill_b(Llama& model) {
  model.for_each_projection([](const std::string&, Linear& linear) {
    if (linear.lora) linear.lora->b = at::randn(linear.lora->b.sizes()).requires_grad_(true);
  });
}

testing::Batch one_sequence() { return {at::randint(0, 97, {11}, at::kLong), {}, {0, 11}}; }

TEST(InjectLora, StartsFromTheBaseModelsFunction) {
  const auto model = testing::small_model();
  const testing::Batch batch = one_sequence();
  const at::Tensor before = testing::batch_logits(*model, batch);
  inject_lora(*model, attention_only(), 7);
  EXPECT_TRUE(testing::batch_logits(*model, batch).detach().equal(before));
}

TEST(InjectLora, InitialRanges) {
  const auto model = testing::small_model();
  LoraConfig config;
  config.rank = 64;
  inject_lora(*model, config, 7);
  model->for_each_projection([&](const std::string& name, Linear& linear) {
    const double bound = 1 / std::sqrt(static_cast<double>(linear.in_features()));
    EXPECT_LE(linear.lora->a.abs().max().item<double>(), bound) << name;
    EXPECT_GT(linear.lora->a.abs().max().item<double>(), 0.98 * bound) << name;
    EXPECT_NEAR(linear.lora->a.std().item<double>(), bound / std::sqrt(3), 0.05 * bound) << name;
    EXPECT_EQ(linear.lora->b.abs().max().item<double>(), 0) << name;
    EXPECT_DOUBLE_EQ(linear.lora->scaling, 32.0 / 64);
  });
  config.init = "gaussian";
  config.use_rslora = true;
  inject_lora(*model, config, 7);
  model->for_each_projection([&](const std::string& name, Linear& linear) {
    EXPECT_NEAR(linear.lora->a.std().item<double>(), 1.0 / 64, 0.1 / 64) << name;
    EXPECT_DOUBLE_EQ(linear.lora->scaling, 32.0 / 8);
  });
}

TEST(InjectLora, TheSeedDecides) {
  const auto model = testing::small_model(), same = testing::small_model();
  inject_lora(*model, attention_only(), 7);
  inject_lora(*same, attention_only(), 7);
  const at::Tensor a = model->layers[1].self_attn.v_proj.lora->a;
  EXPECT_TRUE(a.equal(same->layers[1].self_attn.v_proj.lora->a));
  inject_lora(*same, attention_only(), 8);
  EXPECT_FALSE(a.equal(same->layers[1].self_attn.v_proj.lora->a));
}

TEST(InjectLora, WhatTrainsAndInWhichOrder) {
  const auto model = random_model(testing::small_config(), 1, at::kBFloat16, at::kCPU);
  inject_lora(*model, attention_only(), 7);
  std::vector<std::string> names;
  for (const NamedParameter& parameter : trained_parameters(*model)) {
    names.push_back(parameter.name);
    EXPECT_EQ(parameter.tensor.scalar_type(), at::kFloat) << parameter.name;
    EXPECT_TRUE(parameter.tensor.is_leaf()) << parameter.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"model.embed_tokens.weight", "lm_head.weight",
                                             "model.layers.0.self_attn.q_proj.lora_A.weight",
                                             "model.layers.0.self_attn.q_proj.lora_B.weight",
                                             "model.layers.0.self_attn.v_proj.lora_A.weight",
                                             "model.layers.0.self_attn.v_proj.lora_B.weight",
                                             "model.layers.1.self_attn.q_proj.lora_A.weight",
                                             "model.layers.1.self_attn.q_proj.lora_B.weight",
                                             "model.layers.1.self_attn.v_proj.lora_A.weight",
                                             "model.layers.1.self_attn.v_proj.lora_B.weight"}));
  EXPECT_EQ(model->layers[0].self_attn.q_proj.weight.scalar_type(), at::kBFloat16);
  EXPECT_FALSE(model->norm.requires_grad());
}

TEST(InjectLora, ATiedModelTrainsItsOneMatrix) {
  for (const char* module : {"embed_tokens", "lm_head"}) {
    const auto model = testing::small_model(/*tied=*/true);
    LoraConfig config = attention_only();
    config.modules_to_save = {module};
    inject_lora(*model, config, 7);
    EXPECT_TRUE(model->embed_tokens.requires_grad());
    EXPECT_TRUE(model->embed_tokens.is_same(model->lm_head.weight));
    EXPECT_EQ(trained_parameters(*model).front().name, "model.embed_tokens.weight");
    const PeftAdapter adapter = extract_adapter(*model, config, "base", at::kFloat);
    EXPECT_EQ(adapter.full.size(), 2u);  // for PEFT, which would un-tie them
    EXPECT_EQ(adapter.config.modules_to_save,
              (std::vector<std::string>{"embed_tokens", "lm_head"}));
  }
}

TEST(InjectLora, NamesThatTheModelLacksAreRefused) {
  const auto model = testing::small_model();
  LoraConfig config = attention_only();
  config.target_modules = {"q_porj"};
  expect_error(ErrorKind::kUsage, "did you mean \"q_proj\"",
               [&] { inject_lora(*model, config, 1); });
  config = attention_only();
  config.modules_to_save = {"norm"};
  expect_error(ErrorKind::kUsage, "embed_tokens, lm_head", [&] { inject_lora(*model, config, 1); });
  config.target_modules.clear();
  config.modules_to_save.clear();
  expect_error(ErrorKind::kUsage, "nothing trains", [&] { inject_lora(*model, config, 1); });
}

TEST(Adapter, SavedAndAppliedGivesTheSameLogits) {
  const auto trained = testing::small_model();
  LoraConfig config = attention_only();
  inject_lora(*trained, config, 7);
  fill_b(*trained);
  {
    const at::NoGradGuard no_grad;
    trained->embed_tokens.add_(0.1);
    trained->lm_head.weight.mul_(1.1);
  }
  const testing::TemporaryFolder folder;
  write_peft_adapter(folder.path(), extract_adapter(*trained, config, "base", at::kFloat), true);
  const testing::Batch batch = one_sequence();
  const at::Tensor expected = testing::batch_logits(*trained, batch).detach();
  for (const bool train : {false, true}) {
    const auto fresh = testing::small_model();
    apply_adapter(*fresh, read_peft_adapter(folder.path()), train);
    EXPECT_TRUE(testing::batch_logits(*fresh, batch).detach().equal(expected)) << train;
    EXPECT_EQ(trained_parameters(*fresh).size(), train ? 10u : 0u);
  }
}

TEST(Adapter, TwoOnTopOfEachOtherAddUp) {
  std::vector<PeftAdapter> adapters;
  at::Tensor delta;
  for (const uint64_t seed : {1, 2}) {
    const auto model = testing::small_model();
    LoraConfig config = attention_only();
    config.alpha = static_cast<double>(seed);
    config.modules_to_save.clear();
    inject_lora(*model, config, seed);
    fill_b(*model);
    const Lora& lora = *model->layers[0].self_attn.q_proj.lora;
    const at::Tensor update = lora.b.mm(lora.a).detach() * lora.scaling;
    delta = delta.defined() ? delta + update : update;
    adapters.push_back(extract_adapter(*model, config, "base", at::kFloat));
  }
  const auto model = testing::small_model();
  for (const PeftAdapter& adapter : adapters) apply_adapter(*model, adapter, false);
  const Linear& q = model->layers[0].self_attn.q_proj;
  const at::Tensor x = at::randn({3, 32});
  EXPECT_LT(max_difference(q.forward(x, false), x.mm((q.weight + delta).t())), 1e-4);
}

TEST(Adapter, OneThatDoesNotFitIsRefused) {
  const auto model = testing::small_model();
  inject_lora(*model, attention_only(), 7);
  PeftAdapter adapter = extract_adapter(*model, attention_only(), "base", at::kFloat);
  const auto refused = [&](const PeftAdapter& bad, const char* part) {
    const auto fresh = testing::small_model();
    expect_error(ErrorKind::kFormat, part, [&] { apply_adapter(*fresh, bad, false); });
  };
  PeftAdapter bad = adapter;
  bad.lora["model.layers.9.self_attn.q_proj"] = bad.lora.begin()->second;
  refused(bad, "model.layers.9.self_attn.q_proj");
  bad = adapter;
  bad.lora.begin()->second.a = at::randn({4, 64});
  refused(bad, "[32, 64] matrix");
  bad = adapter;
  bad.full["model.embed_tokens.weight"] = at::randn({98, 32});
  refused(bad, "[98, 32], but the base model's is [97, 32]");
  bad = adapter;
  bad.full["model.norm.weight"] = at::randn({32});
  refused(bad, "model.norm.weight");
}

TEST(TrainAll, EveryWeightIsAnFp32MasterOfItsOwn) {
  const auto model = random_model(testing::small_config(/*tied=*/true), 1, at::kBFloat16, at::kCPU);
  train_all_parameters(*model);
  const auto trained = trained_parameters(*model);
  EXPECT_EQ(trained.size(), expected_tensors(model->config, at::kFloat).size());
  for (const auto& parameter : trained) EXPECT_EQ(parameter.tensor.scalar_type(), at::kFloat);
  EXPECT_TRUE(model->lm_head.weight.is_same(model->embed_tokens));
}

}  // namespace
}  // namespace llama2zh
