// Values of transformers' get_*_schedule_with_warmup, computed by hand from their formulas where
// they are simple; tests/reference/train has whole runs.
#include "llama2zh/train/schedule.h"

#include <gtest/gtest.h>

#include "llama2zh/train/adamw.h"

namespace llama2zh {
namespace {

TrainerConfig schedule_config(const char* type) {
  TrainerConfig config;
  config.learning_rate = 1e-3;
  config.lr_scheduler_type = type;
  return config;
}

TEST(LearningRate, CosineFallsToZeroAfterTheWarmup) {
  TrainerConfig config = schedule_config("cosine");
  config.warmup_steps = 10;
  const LearningRate rate(config, 110);
  EXPECT_EQ(rate.at(0), 0);
  EXPECT_DOUBLE_EQ(rate.at(5), 5e-4);
  EXPECT_DOUBLE_EQ(rate.at(10), 1e-3);
  EXPECT_DOUBLE_EQ(rate.at(60), 5e-4);
  EXPECT_NEAR(rate.at(35), 1e-3 * 0.8535533905932737, 1e-15);
  EXPECT_NEAR(rate.at(110), 0, 1e-18);
}

TEST(LearningRate, LinearAndConstant) {
  TrainerConfig config = schedule_config("linear");
  config.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(LearningRate(config, 24).at(14), 5e-4);
  config = schedule_config("constant");
  EXPECT_DOUBLE_EQ(LearningRate(config, 24).at(0), 1e-3);
  EXPECT_DOUBLE_EQ(LearningRate(config, 24).at(23), 1e-3);
}

TEST(LearningRate, WarmupRatioIsRoundedUpAndStepsGoFirst) {
  TrainerConfig config = schedule_config("cosine");
  config.warmup_ratio = 0.05;
  EXPECT_EQ(LearningRate(config, 110).warmup_steps(), 6);
  config.warmup_steps = 3;
  EXPECT_EQ(LearningRate(config, 110).warmup_steps(), 3);
}

TEST(LearningRate, EndsAtTheMinimum) {
  TrainerConfig config = schedule_config("cosine");
  config.min_lr_ratio = 0.1;
  EXPECT_DOUBLE_EQ(LearningRate(config, 100).at(50), 1e-3 * 0.55);
  EXPECT_NEAR(LearningRate(config, 100).at(100), 1e-4, 1e-18);
}

TEST(AdamWGroups, NormsAndBiasesAreNotDecayed) {
  EXPECT_TRUE(is_decayed("model.embed_tokens.weight"));
  EXPECT_TRUE(is_decayed("lm_head.weight"));
  EXPECT_TRUE(is_decayed("model.layers.0.self_attn.q_proj.lora_A.weight"));
  EXPECT_TRUE(is_decayed("model.layers.11.mlp.down_proj.weight"));
  EXPECT_FALSE(is_decayed("model.layers.0.input_layernorm.weight"));
  EXPECT_FALSE(is_decayed("model.layers.0.post_attention_layernorm.weight"));
  EXPECT_FALSE(is_decayed("model.norm.weight"));
  EXPECT_FALSE(is_decayed("model.layers.0.self_attn.q_norm.weight"));
  EXPECT_FALSE(is_decayed("model.layers.0.self_attn.q_proj.bias"));
}

}  // namespace
}  // namespace llama2zh
