// Whole runs of preference tuning, from files to files.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/load.h"
#include "llama2zh/train/recipe.h"
#include "tokenizer/test_models.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

constexpr const char* kReference = "reference_log_probs.safetensors";

class PreferenceRuns : public ::testing::Test {
 protected:
  void SetUp() override {
    const testing::TinyModel tiny;
    const Tokenizer tokenizer = Tokenizer::load(tiny.path());
    LlamaConfig shape = tiny_model_config();
    shape.vocab_size = tokenizer.vocab_size();
    fs::create_directories(folder_ / "base");
    save_model(folder_ / "base", *random_model(shape, 1, at::kFloat, at::kCPU), &tokenizer, {});
    std::ofstream pairs(folder_ / "pairs.jsonl");
    for (int i = 0; i < 12; ++i) {
      pairs << R"({"prompt": "ab )" << std::string(1 + i % 3, 'b') << R"(", "chosen": "a a)"
            << std::string(i % 2, 'a') << R"(", "rejected": "b ba b"})"
            << "\n";
    }
  }
  void TearDown() override { clear_stop(); }

  RunConfig config(const std::string& output, const std::string& loss = "sigmoid") const {
    RunConfig run;
    run.output_dir = folder_ / output;
    run.model.path = folder_ / "base";
    run.model.device = "cpu";
    run.lora.rank = 2;
    run.lora.dropout = 0.1;
    run.data.train_files = {(folder_ / "pairs.jsonl").string()};
    run.data.format = "preference";
    run.data.chat_template = "plain";
    run.data.block_size = 64;
    run.train.micro_batch_size = 1;
    run.train.gradient_accumulation_steps = 2;
    run.train.max_steps = 8;
    run.train.learning_rate = 1e-2;
    run.train.report_to = "none";
    run.train.peak_tflops = 1;
    run.train.save_dtype = "float32";
    run.preference.loss = loss;
    return run;
  }
  static TrainOutcome train(const RunConfig& run) { return run_training(run, RowKind::kSft); }

  TempFolder folder_;
};

std::vector<json> steps_of(const fs::path& output) {
  std::vector<json> lines;
  for (const json& line : read_log(output)) {
    if (line.contains("rewards/margins")) lines.push_back(line);
  }
  return lines;
}

TEST_F(PreferenceRuns, EveryLossRaisesTheMarginAndLeavesAnAdapter) {
  for (const char* loss : {"sigmoid", "ipo", "hinge", "kto_pair", "orpo", "simpo"}) {
    const RunConfig run = config(cat("out-", loss), loss);
    ASSERT_EQ(train(run), TrainOutcome::kFinished) << loss;
    const std::vector<json> steps = steps_of(run.output_dir);
    ASSERT_EQ(steps.size(), 8u) << loss;
    EXPECT_GT(steps.back()["rewards/margins"].get<double>(),
              steps.front()["rewards/margins"].get<double>())
        << loss;
    EXPECT_LT(steps.back()["loss"].get<double>(), steps.front()["loss"].get<double>()) << loss;
    for (const char* key : {"rewards/chosen", "rewards/rejected", "rewards/accuracies",
                            "logps/chosen", "logps/rejected"}) {
      EXPECT_TRUE(steps.back().contains(key)) << key;
    }
    EXPECT_EQ(read_peft_adapter(run.output_dir).lora.size(), 14u);
    const bool reference = std::string_view(loss) != "orpo" && std::string_view(loss) != "simpo";
    EXPECT_EQ(fs::exists(fs::path(run.output_dir) / kReference), reference) << loss;
  }
}

// A new adapter changes nothing, so that the first rewards are exactly 0 without dropout.
TEST_F(PreferenceRuns, RewardsBeginAtZeroAndValidationSetsHaveTheirs) {
  RunConfig run = config("out");
  run.lora.dropout = 0;
  run.data.validation_split = 0.25;
  run.train.eval_steps = 4;
  ASSERT_EQ(train(run), TrainOutcome::kFinished);
  const json first = steps_of(run.output_dir).front();
  EXPECT_NEAR(first["loss"].get<double>(), std::log(2.0), 1e-4);
  EXPECT_NEAR(first["rewards/margins"].get<double>(), 0, 1e-4);
  int evaluations = 0;
  for (const json& line : read_log(run.output_dir)) {
    if (!line.contains("eval_loss")) continue;
    ++evaluations;
    EXPECT_TRUE(line.contains("eval_rewards/accuracies"));
    EXPECT_FALSE(line.contains("eval_perplexity"));
  }
  EXPECT_EQ(evaluations, 2);
}

void expect_equal_adapters(const fs::path& a, const fs::path& b) {
  const auto ours = open_tensors(a), theirs = open_tensors(b);
  ASSERT_EQ(ours->tensors().size(), theirs->tensors().size());
  for (const TensorInfo& info : ours->tensors()) {
    EXPECT_TRUE(bit_equal(ours->load(info.name), theirs->load(info.name))) << info.name;
  }
}

TEST_F(PreferenceRuns, ResumingIsBitExact) {
  const RunConfig straight = config("straight");
  ASSERT_EQ(train(straight), TrainOutcome::kFinished);
  RunConfig parts = config("parts");
  parts.train.stop_at_step = 3;
  ASSERT_EQ(train(parts), TrainOutcome::kStopped);
  // What a lost reference gives again: the weights as training began, not those of the checkpoint.
  fs::remove(fs::path(parts.output_dir) / kReference);
  parts.train.stop_at_step = 0;
  parts.resume = true;
  ASSERT_EQ(train(parts), TrainOutcome::kFinished);
  expect_equal_adapters(straight.output_dir, parts.output_dir);
  const std::vector<json> a = steps_of(straight.output_dir), b = steps_of(parts.output_dir);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for (const char* key : {"loss", "grad_norm", "rewards/margins", "logps/chosen"}) {
      EXPECT_EQ(a[i][key], b[i][key]) << key << " of step " << i;
    }
  }
  parts.preference.beta = 0.2;
  EXPECT_NE(error_text_of(ErrorKind::kUsage, [&] { train(parts); }).find("preference.beta"),
            std::string::npos);
}

TEST_F(PreferenceRuns, AnInterruptedReferenceIsGoneOnWith) {
  const RunConfig whole = config("whole");
  ASSERT_EQ(train(whole), TrainOutcome::kFinished);
  RunConfig run = config("out");
  // As an interruption leaves it: some rows are not known yet.
  fs::create_directories(run.output_dir);
  const auto known = open_tensors(fs::path(whole.output_dir) / kReference);
  at::Tensor chosen = known->load("chosen").clone(), rejected = known->load("rejected").clone();
  chosen.slice(0, 5).fill_(std::nan(""));
  rejected.slice(0, 5).fill_(std::nan(""));
  write_safetensors(
      fs::path(run.output_dir) / kReference,
      {{"chosen", chosen}, {"fingerprint", known->load("fingerprint")}, {"rejected", rejected}});
  run.resume = true;  // warns that there is no checkpoint yet
  ASSERT_EQ(train(run), TrainOutcome::kFinished);
  const auto filled = open_tensors(fs::path(run.output_dir) / kReference);
  EXPECT_TRUE(bit_equal(filled->load("chosen"), known->load("chosen")));
  expect_equal_adapters(whole.output_dir, run.output_dir);
}

TEST_F(PreferenceRuns, TheReferenceOfAContinuedAdapterIsItsStartOrTheBase) {
  const RunConfig first = config("first");
  ASSERT_EQ(train(first), TrainOutcome::kFinished);
  double margins[2];
  for (const bool base : {false, true}) {
    RunConfig run = config(base ? "base-reference" : "start-reference");
    run.model.peft_path = first.output_dir;
    run.lora.dropout = 0;
    run.preference.reference = base ? "base" : "start";
    ASSERT_EQ(train(run), TrainOutcome::kFinished);
    margins[base ? 1 : 0] = steps_of(run.output_dir).front()["rewards/margins"];
  }
  EXPECT_NEAR(margins[0], 0, 1e-4);
  EXPECT_GT(margins[1], 0.01);  // what the first run has learnt
}

TEST_F(PreferenceRuns, RefusedBeforeAnythingIsLoaded) {
  RunConfig run = config("out", "hinge");
  run.model.path = folder_ / "nothing-there";
  run.preference.label_smoothing = 0.1;
  EXPECT_NE(error_text_of(ErrorKind::kUsage, [&] { train(run); }).find("no label smoothing"),
            std::string::npos);
  run.preference.label_smoothing = 0;
  run.data.overlong = "drop_turns";
  EXPECT_NE(error_text_of(ErrorKind::kUsage, [&] { train(run); }).find("data.overlong"),
            std::string::npos);
}

}  // namespace
}  // namespace llama2zh
