// FLOPs counted by hand for the tiny model (tiny_model_config: V 48, H 16, I 24, 2 layers, 4 heads
// of 4, 2 of keys and values).
#include "llama2zh/train/cost.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "llama2zh/model/load.h"
#include "llama2zh/model/lora.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

constexpr double kLayerWeights = 16 * 16 + 2 * 8 * 16 + 16 * 16 + 3 * 24 * 16;
constexpr double kHeadWeights = 48 * 16;

PackedBatch batch_of(const std::vector<int64_t>& boundaries, int64_t supervised) {
  PackedBatch batch;
  batch.ids = at::zeros({boundaries.back()}, at::kLong);
  batch.boundaries = boundaries;
  batch.supervised = supervised;
  return batch;
}

double attention_flops(const std::vector<double>& lengths) {
  double pairs = 0;
  for (const double length : lengths) pairs += length * (length + 1) / 2;
  return 12 * 2 * 16 * pairs;  // layers, heads * head_dim
}

TEST(StepCost, FullTrainingIsSixAWeightAndToken) {
  const auto model = random_model(tiny_model_config(), 1, at::kFloat, at::kCPU);
  train_all_parameters(*model);
  const double flops = StepCost(*model).flops(batch_of({0, 4, 10}, 8));
  EXPECT_DOUBLE_EQ(flops,
                   10 * 6 * 2 * kLayerWeights + 8 * 6 * kHeadWeights + attention_flops({4, 6}));
}

TEST(StepCost, FrozenWeightsCostFourAndLoraSix) {
  const auto model = random_model(tiny_model_config(), 1, at::kFloat, at::kCPU);
  LoraConfig lora;
  lora.rank = 3;
  lora.target_modules = {"q_proj", "down_proj"};
  lora.modules_to_save = {"lm_head"};
  inject_lora(*model, lora, 1);
  const double lora_weights = 2 * (3 * (16 + 16) + 3 * (24 + 16));
  const std::vector<PackedBatch> batches = {batch_of({0, 10}, 9), batch_of({0, 7}, 0)};
  EXPECT_DOUBLE_EQ(StepCost(*model).flops(batches),
                   10 * (4 * 2 * kLayerWeights + 6 * lora_weights) + 9 * 6 * kHeadWeights +
                       attention_flops({10}));  // the unsupervised batch is not run
}

TEST(StepCost, OfAHeadWhoseLastRowsTrainTheyAloneHaveAGradient) {
  for (const bool tied : {false, true}) {
    LlamaConfig config = tiny_model_config();
    config.tie_word_embeddings = tied;
    const auto model = random_model(config, 1, at::kFloat, at::kCPU);
    LoraConfig lora;
    lora.rank = 3;
    lora.target_modules = {"q_proj"};
    lora.modules_to_save = {"embed_tokens", "lm_head"};
    inject_lora(*model, lora, 1, {.first_trained_row = 40});
    const double lora_weights = 2 * 3 * (16 + 16), trained_rows = 8 * 16;
    EXPECT_DOUBLE_EQ(StepCost(*model).flops(batch_of({0, 10}, 9)),
                     10 * (4 * 2 * kLayerWeights + 6 * lora_weights) +
                         9 * (4 * kHeadWeights + 2 * trained_rows) + attention_flops({10}))
        << tied;
  }
}

}  // namespace
}  // namespace llama2zh
