// The plan against what a step really allocates, tensor by tensor.
#include "llama2zh/train/memory_plan.h"

#include <gtest/gtest.h>

#include "llama2zh/model/load.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/train/step.h"
#include "train/tensor_peak.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

constexpr double kTolerance = 0.12;  // of the whole; stated in docs/memory.md

struct PlannedCase {
  const char* name;
  int64_t layers = 6, vocab_size = 1000, accumulation = 1;
  bool full = false, checkpointing = false, bf16 = true;
  double dropout = 0;
  std::vector<std::string> modules_to_save = {"embed_tokens", "lm_head"};
};

LlamaConfig shape_of(const PlannedCase& c) {
  LlamaConfig model;
  model.vocab_size = c.vocab_size;
  model.hidden_size = 128;
  model.intermediate_size = 344;
  model.num_hidden_layers = c.layers;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  model.head_dim = 32;
  return model;
}

RunConfig run_of(const PlannedCase& c) {
  RunConfig run;
  run.method = c.full ? "full" : "lora";
  run.lora.dropout = c.dropout;
  run.lora.modules_to_save = c.modules_to_save;
  run.data.block_size = 256;
  run.train.micro_batch_size = 2;
  run.train.gradient_accumulation_steps = c.accumulation;
  run.train.gradient_checkpointing = c.checkpointing;
  return run;
}

// Bytes of tensors at the peak of the second step, weights and states included.
int64_t measured_peak(const PlannedCase& c) {
  TensorPeak peak;
  const RunConfig run = run_of(c);
  const auto model = random_model(shape_of(c), 1, c.bf16 ? at::kBFloat16 : at::kFloat, at::kCPU);
  if (c.full) {
    train_all_parameters(*model);
  } else {
    inject_lora(*model, run.lora, 1);
  }
  const TokenRows rows = random_rows(40 * c.accumulation, c.vocab_size, 200);
  LoaderOptions options;
  options.block_size = run.data.block_size;
  options.micro_batch_size = run.train.micro_batch_size;
  const BatchLoader loader(rows, options);
  StepRunner runner(*model, run.train, 2);
  for (int64_t step = 0, index = 0; step < 2; ++step) {
    std::vector<PackedBatch> batches;
    for (int64_t i = 0; i < c.accumulation; ++i) batches.push_back(loader.batch(0, index++));
    peak.reset_peak();
    runner.run(step, batches);
  }
  return peak.peak();
}

class MemoryPlan : public ::testing::TestWithParam<PlannedCase> {};

TEST_P(MemoryPlan, AgreesWithAStep) {
  const PlannedCase& c = GetParam();
  MemorySetting setting;
  setting.bytes_per_number = c.bf16 ? 2 : 4;
  const MemoryEstimate estimate = estimate_memory(shape_of(c), run_of(c), setting);
  const auto measured = static_cast<double>(measured_peak(c));
  const double ratio = static_cast<double>(estimate.total()) / measured;
  RecordProperty("ratio", std::to_string(ratio));
  EXPECT_NEAR(ratio, 1, kTolerance)
      << c.name << ": planned " << estimate.total() << " (frozen " << estimate.frozen
      << ", trained " << estimate.trained << ", working " << estimate.working << "), measured "
      << measured;
}

INSTANTIATE_TEST_SUITE_P(
    , MemoryPlan,
    ::testing::Values(
        PlannedCase{.name = "lora"}, PlannedCase{.name = "dropout", .dropout = 0.1},
        PlannedCase{.name = "accumulation", .accumulation = 2},
        PlannedCase{.name = "checkpointing", .checkpointing = true},
        PlannedCase{.name = "adapters_only", .modules_to_save = {}},
        PlannedCase{.name = "vocabulary", .layers = 1, .vocab_size = 16000},
        PlannedCase{
            .name = "vocabulary_accumulation", .layers = 1, .vocab_size = 16000, .accumulation = 2},
        PlannedCase{.name = "full", .full = true}, PlannedCase{.name = "float32", .bf16 = false},
        PlannedCase{.name = "full_float32", .full = true, .bf16 = false}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(MemoryPlanOfQuantized, FrozenIsWhatIsStored) {
  LlamaConfig model = shape_of({.name = "int8"});
  RunConfig run;
  run.lora.modules_to_save = {};
  const MemorySetting setting{.bytes_per_number = 2};
  const MemoryEstimate plain = estimate_memory(model, run, setting);
  const int64_t projections = model.parameter_count() - 2 * model.vocab_size * model.hidden_size -
                              (2 * model.num_hidden_layers + 1) * model.hidden_size;
  model.quantization = QuantizationConfig{.bits = 8, .group_size = 128};
  const MemoryEstimate quantized = estimate_memory(model, run, setting);
  EXPECT_EQ(quantized.trained, plain.trained);
  EXPECT_EQ(quantized.checkpoint, plain.checkpoint);
  // A byte a weight instead of two, a float32 scale for 128, and rows filled up to whole groups (344 to 384).
  const auto saved = static_cast<double>(plain.frozen - quantized.frozen);
  EXPECT_GT(saved, static_cast<double>(projections) * 0.85);
  EXPECT_LT(saved, static_cast<double>(projections));
  const MemoryEstimate on_gpu = estimate_memory(model, run, {.bytes_per_number = 2, .gpu = true});
  EXPECT_EQ(on_gpu.frozen, quantized.frozen);
  model.quantization.reset();
  const MemoryEstimate plain_on_gpu =
      estimate_memory(model, run, {.bytes_per_number = 2, .gpu = true});
  const int64_t piece = model.intermediate_size * model.hidden_size;
  EXPECT_EQ(on_gpu.working, plain_on_gpu.working + static_cast<uint64_t>(10 * piece));
}

// The formulas of docs/distributed.md: masters, gradients and moments of T numbers on 4 ranks.
TEST(MemoryPlanOfRanks, StagesOfZero) {
  RunConfig run;
  run.method = "full";
  run.train.gradient_accumulation_steps = 2;
  LlamaConfig model;
  model.vocab_size = 1000;
  model.num_hidden_layers = 2;
  const auto trained = static_cast<uint64_t>(trainable_parameters(model, run));
  const auto memory = [&](int64_t stage, bool offload) {
    run.distributed.zero_stage = stage;
    run.distributed.offload_optimizer = offload;
    return estimate_memory(model, run, {.bytes_per_number = 4, .ranks = 4});
  };
  const uint64_t whole = memory(0, false).trained;
  EXPECT_EQ(whole - memory(1, false).trained, 6 * trained);
  EXPECT_EQ(whole - memory(2, false).trained, 9 * trained);
  EXPECT_EQ(whole - memory(2, true).trained, 11 * trained);
  EXPECT_EQ(memory(2, true).offloaded, 4 * trained);
  EXPECT_EQ(memory(2, true).checkpoint, memory(0, false).checkpoint);
}

TEST(MemoryPlanOfRanks, GpusNeedRoomBesideTheTensors) {
  MemoryEstimate estimate;
  estimate.frozen = 20'000'000'000;
  EXPECT_TRUE(fits_gpu(estimate, 24'000'000'000));
  estimate.frozen = 22'000'000'000;
  EXPECT_FALSE(fits_gpu(estimate, 24'000'000'000));
}

}  // namespace
}  // namespace llama2zh
