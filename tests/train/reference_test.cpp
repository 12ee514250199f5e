// Twenty optimizer steps against PEFT and torch (scripts/make_training_reference.py): LoRA on seven
// projections, embed_tokens and lm_head, accumulation with short steps at the epochs' ends,
// clipping, cosine schedule with warmup, weight decay.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/model/load.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

fs::path training_reference() {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return fs::path(source == nullptr ? "." : source) / "tests/reference/train";
}

TokenRows rows_of(const json& list) {
  TokenRows rows;
  for (const json& row : list) {
    rows.add(row["ids"].get<std::vector<TokenId>>(), row["targets"].get<std::vector<uint8_t>>());
  }
  return rows;
}

TrainerConfig config_of(const json& options, const std::string& reduction) {
  TrainerConfig config;
  config.micro_batch_size = options["micro_batch_size"];
  config.gradient_accumulation_steps = options["gradient_accumulation_steps"];
  config.max_steps = options["max_steps"];
  config.learning_rate = options["learning_rate"];
  config.warmup_ratio = options["warmup_ratio"];
  config.weight_decay = options["weight_decay"];
  config.max_grad_norm = options["max_grad_norm"];
  config.loss_reduction = reduction;
  config.head_chunk_rows = 7;
  return config;
}

void expect_same_steps(const std::vector<json>& ours, const json& theirs) {
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const double loss = theirs[i]["loss"], norm = theirs[i]["grad_norm"];
    EXPECT_NEAR(ours[i]["loss"], loss, 1e-4 * loss) << "step " << i + 1;
    EXPECT_NEAR(ours[i]["grad_norm"], norm, 1e-3 * norm) << "step " << i + 1;
    EXPECT_NEAR(ours[i]["learning_rate"], theirs[i]["learning_rate"], 1e-15);
    EXPECT_EQ(ours[i]["supervised_tokens"], theirs[i]["supervised_tokens"]);
  }
}

void expect_same_adapter(Llama& model, const fs::path& file) {
  const auto theirs = open_safetensors(file);
  size_t compared = 0;
  for (const NamedParameter& parameter : trained_parameters(model)) {
    const at::Tensor expected = theirs->load("base_model.model." + parameter.name);
    const at::Tensor got = parameter.tensor.detach();
    const at::Tensor difference = got - expected;
    EXPECT_LT(difference.abs().max().item<double>(), 1e-3) << parameter.name;
    ++compared;
  }
  EXPECT_EQ(compared, theirs->tensors().size());
}

class PeftReference : public ::testing::TestWithParam<const char*> {};

TEST_P(PeftReference, TwentyStepsAgree) {
  const std::string reduction = GetParam();
  const fs::path folder = training_reference();
  const json reference = read_json_file(folder / "steps.json");
  const TokenRows rows = rows_of(reference["rows"]);
  LoaderOptions loader_options;
  loader_options.kind = RowKind::kSft;
  loader_options.block_size = reference["options"]["block_size"];
  loader_options.micro_batch_size = reference["options"]["micro_batch_size"];
  loader_options.packing = false;
  loader_options.shuffle = false;
  const BatchLoader loader(rows, loader_options);
  const OpenModel open = open_model(folder / "base");
  const auto model = load_model(open, at::kFloat, at::kCPU);
  check_adapter_vocabulary(folder / "adapter", open.config, open.path);
  apply_adapter(*model, read_peft_adapter(folder / "adapter"), /*train=*/true);

  const TempFolder output;
  TrainerParts parts;
  parts.model = model.get();
  parts.loader = &loader;
  parts.output_dir = output.path();
  Trainer trainer(std::move(parts), config_of(reference["options"], reduction));
  EXPECT_EQ(trainer.run(), TrainOutcome::kFinished);
  expect_same_steps(read_log(output.path()), reference[reduction]);
  expect_same_adapter(*model, folder / (reduction + ".safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Reductions, PeftReference, ::testing::Values("token", "micro_batch_mean"));

}  // namespace
}  // namespace llama2zh
