// Every config that the project ships is read, and says what the original's recipe says.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "base/expect_error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/config/load.h"
#include "llama2zh/train/plan.h"
#include "llama2zh/train/run_config.h"
#include "llama2zh/train/sharded_adamw.h"

namespace llama2zh {
namespace {

RunConfig load_run_config(const fs::path& file) {
  RunConfig config;
  Provenance provenance;
  load_config_file(bind_options(config), file, provenance);
  return config;
}

fs::path configs_folder() {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return fs::path(source == nullptr ? "." : source) / "configs";
}

TEST(Configs, ShippedOnesAreRead) {
  int count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(configs_folder())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("quickstart")) continue;
    const RunConfig config = load_run_config(entry.path());
    EXPECT_FALSE(config.output_dir.empty()) << name;
    EXPECT_FALSE(config.data.train_files.empty()) << name;
    ++count;
  }
  EXPECT_GE(count, 5);
}

TEST(Configs, OriginalHyperparameters) {
  const RunConfig pretrain = load_run_config(configs_folder() / "pretrain_7b.json");
  EXPECT_EQ(pretrain.lora.rank, 24);
  EXPECT_EQ(pretrain.lora.alpha, 32);
  EXPECT_EQ(pretrain.lora.dropout, 0.1);
  EXPECT_EQ(pretrain.train.learning_rate, 1e-4);
  EXPECT_EQ(pretrain.train.weight_decay, 0.01);
  EXPECT_EQ(pretrain.train.gradient_accumulation_steps, 128);
  EXPECT_EQ(pretrain.train.max_steps, 10000);
  EXPECT_EQ(pretrain.data.block_size, 512);
  const RunConfig sft = load_run_config(configs_folder() / "sft_7b.json");
  EXPECT_EQ(sft.lora.rank, 20);
  EXPECT_EQ(sft.train.learning_rate, 2e-5);
  EXPECT_EQ(sft.train.gradient_accumulation_steps, 160);
  EXPECT_EQ(sft.data.block_size, 1024);
}

// The same recipe but for what watches it.
TEST(Configs, GuardedIsTheSameRecipe) {
  const RunConfig plain = load_run_config(configs_folder() / "pretrain_7b.json");
  RunConfig guarded = load_run_config(configs_folder() / "pretrain_7b_guarded.json");
  EXPECT_EQ(guarded.train.guard_set, "en");
  EXPECT_EQ(guarded.train.guard_action, "stop");
  EXPECT_EQ(guarded.data.validation_files.size(), 2u);
  static_cast<GuardConfig&>(guarded.train) = plain.train;
  guarded.output_dir = plain.output_dir;
  guarded.data.validation_files = plain.data.validation_files;
  guarded.data.validation_split = plain.data.validation_split;
  const auto values = [](RunConfig config) {
    std::map<std::string, ordered_json> out;
    for (const OptionEntry& entry : bind_options(config)) out[entry.key] = entry.get();
    return out;
  };
  EXPECT_EQ(values(guarded), values(plain));
}

TEST(Configs, ThirteenBillionUnderZero2) {
  const RunConfig zero = load_run_config(configs_folder() / "pretrain_13b_zero2.json");
  EXPECT_EQ(zero.distributed.zero_stage, 2);
  EXPECT_TRUE(zero.distributed.offload_optimizer);
  EXPECT_EQ(sharding_of(zero.distributed).state_device, at::Device(at::kCPU));
  EXPECT_EQ(zero.lora.rank, 6);
  EXPECT_EQ(zero.train.learning_rate, 5e-5);
  EXPECT_EQ(zero.train.max_steps, 50000);
  RunConfig plain = load_run_config(configs_folder() / "pretrain_13b.json");
  plain.distributed = zero.distributed;
  plain.output_dir = zero.output_dir;
  RunConfig same = zero;
  EXPECT_EQ(to_json(bind_options(plain)), to_json(bind_options(same)));
}

// What would have to be a number of its own is not trained: a quantized base has none.
TEST(Configs, QloraTrainsAdaptersAlone) {
  const RunConfig qlora = load_run_config(configs_folder() / "qlora_7b.json");
  EXPECT_EQ(qlora.method, "lora");
  EXPECT_TRUE(qlora.lora.modules_to_save.empty());
  EXPECT_EQ(qlora.lora.target_modules, LoraConfig().target_modules);
}

TEST(Configs, OffloadWithoutStagesIsRefused) {
  DistributedConfig config;
  config.offload_optimizer = true;
  const std::string text = error_text_of(ErrorKind::kUsage, [&] { sharding_of(config); });
  EXPECT_NE(text.find("distributed.zero_stage 1"), std::string::npos) << text;
  config.zero_stage = 1;
  EXPECT_EQ(sharding_of(config).stage, 1);
}

TEST(Configs, ResolvedConfigStartsTheSameRun) {
  RunConfig config = load_run_config(configs_folder() / "sft_7b.json");
  const ordered_json resolved = to_json(bind_options(config));
  EXPECT_EQ(resolved["train"]["gradient_accumulation_steps"], 160);
  EXPECT_EQ(resolved["data"]["template"], "v0.2");
  EXPECT_EQ(resolved["lora"]["target_modules"].size(), 7u);
}

}  // namespace
}  // namespace llama2zh
