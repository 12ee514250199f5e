// Training methods against PEFT and transformers (scripts/make_method_reference.py): DoRA with ranks
// by pattern, LoRA+, an own rate for embeddings and head, label smoothing, warmup-stable-decay.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/temp_folder.h"
#include "kernels/tensor_checks.h"
#include "llama2zh/base/file.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/model/load.h"
#include "llama2zh/model/merge.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

fs::path reference(const std::string& name) {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return fs::path(source == nullptr ? "." : source) / "tests/reference" / name;
}

TrainerConfig method_config(const json& options) {
  TrainerConfig config;
  config.micro_batch_size = options["micro_batch_size"];
  config.gradient_accumulation_steps = options["gradient_accumulation_steps"];
  config.max_steps = options["max_steps"];
  config.learning_rate = options["learning_rate"];
  config.weight_decay = options["weight_decay"];
  config.max_grad_norm = options["max_grad_norm"];
  config.loraplus_lr_ratio = options["loraplus_lr_ratio"];
  config.embedding_learning_rate = options["embedding_learning_rate"].get<double>();
  config.label_smoothing_factor = options["label_smoothing_factor"];
  config.lr_scheduler_type = "warmup_stable_decay";
  config.warmup_steps = options["warmup_steps"];
  config.num_decay_steps = options["num_decay_steps"];
  config.decay_type = options["decay_type"];
  config.min_lr_ratio = options["min_lr_ratio"];
  config.head_chunk_rows = 7;
  return config;
}

TokenRows reference_rows() {
  TokenRows rows;
  const json steps = read_json_file(reference("train/steps.json"));
  for (const json& row : steps["rows"]) {
    rows.add(row["ids"].get<std::vector<TokenId>>(), row["targets"].get<std::vector<uint8_t>>());
  }
  return rows;
}

std::unique_ptr<Llama> dora_model(bool train) {
  auto model = load_model(open_model(reference("train/base")), at::kFloat, at::kCPU);
  apply_adapter(*model, read_peft_adapter(reference("method/dora/adapter")), train);
  return model;
}

TEST(DoraReference, LogitsAgreeWithPeft) {
  const auto start = open_safetensors(reference("method/dora/start.safetensors"));
  for (const bool train : {false, true}) {
    const auto model = dora_model(train);
    const at::Tensor ids = start->load("ids");
    PackedSequences context(ids.size(0), at::kCPU);
    const at::Tensor logits = model->logits(model->forward(ids, context)).detach();
    EXPECT_LT(max_difference(logits, start->load("logits")), 1e-4) << train;
  }
}

TEST(DoraReference, MergedWeightsAgreeWithPeft) {
  const TempFolder output;
  merge_adapters({reference("train/base"), {reference("method/dora/adapter")}, output.path()},
                 nullptr);
  const auto ours = open_tensors(output.path());
  const auto start = open_safetensors(reference("method/dora/start.safetensors"));
  size_t compared = 0;
  for (const TensorInfo& info : start->tensors()) {
    if (!info.name.starts_with("merged.")) continue;
    EXPECT_LT(max_difference(ours->load(info.name.substr(7)), start->load(info.name)), 1e-5)
        << info.name;
    ++compared;
  }
  EXPECT_EQ(compared, 14u);
}

TEST(DoraReference, TenStepsAgreeWithPeft) {
  const json steps = read_json_file(reference("method/dora/steps.json"));
  const TokenRows rows = reference_rows();
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = steps["options"]["block_size"];
  options.micro_batch_size = steps["options"]["micro_batch_size"];
  options.packing = false;
  options.shuffle = false;
  const BatchLoader loader(rows, options);
  const auto model = dora_model(/*train=*/true);
  const TempFolder output;
  TrainerParts parts;
  parts.model = model.get();
  parts.loader = &loader;
  parts.output_dir = output.path();
  Trainer trainer(std::move(parts), method_config(steps["options"]));
  EXPECT_EQ(trainer.run(), TrainOutcome::kFinished);

  const std::vector<json> ours = read_log(output.path());
  ASSERT_EQ(ours.size(), steps["steps"].size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const json& theirs = steps["steps"][i];
    const double loss = theirs["loss"], norm = theirs["grad_norm"];
    EXPECT_NEAR(ours[i]["loss"], loss, 1e-4 * loss) << "step " << i + 1;
    EXPECT_NEAR(ours[i]["grad_norm"], norm, 1e-3 * norm) << "step " << i + 1;
    EXPECT_NEAR(ours[i]["learning_rate"], theirs["learning_rate"], 1e-15);
  }
  const auto end = open_safetensors(reference("method/dora/end.safetensors"));
  const auto trained = trained_parameters(*model);
  EXPECT_EQ(trained.size(), end->tensors().size());
  for (const NamedParameter& parameter : trained) {
    const at::Tensor expected = end->load("base_model.model." + parameter.name);
    EXPECT_LT(max_difference(parameter.tensor, expected), 1e-3) << parameter.name;
  }
}

TEST(WarmupStableDecay, RatesAreTransformers) {
  const json reference_file = read_json_file(reference("method/wsd.json"));
  for (const json& one : reference_file["cases"]) {
    TrainerConfig config;
    config.learning_rate = 1;
    config.lr_scheduler_type = "warmup_stable_decay";
    config.warmup_steps = one["warmup_steps"];
    config.num_decay_steps = one["num_decay_steps"];
    config.min_lr_ratio = one["min_lr_ratio"];
    config.warmup_type = one["warmup_type"];
    config.decay_type = one["decay_type"];
    const LearningRate rate(config, one["max_steps"]);
    for (size_t step = 0; step < one["rates"].size(); ++step) {
      EXPECT_NEAR(rate.at(static_cast<int64_t>(step)), one["rates"][step], 1e-12)
          << one["decay_type"] << " step " << step;
    }
  }
}

}  // namespace
}  // namespace llama2zh
