// What an engine answers on each device that is there: the same as on a CPU.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "kernels/each_device.h"
#include "kernels/tensor_checks.h"
#include "llama2zh/model/quantize.h"
#include "llama2zh/nn/attention_context.h"

namespace llama2zh {
namespace {

using testing::Answers;

class DeviceAnswers : public testing::EachDevice {
 protected:
  void SetUp() override {
    EachDevice::SetUp();
    if (IsSkipped()) return;
    LlamaConfig config = testing::small_config(tokenizer_.vocab_size(), 256);
    config.hidden_size = config.intermediate_size = 64;
    const auto model = random_model(config, 3, at::kFloat, at::kCPU);
    for (const char* name : {"plain", "quantized"}) fs::create_directories(folder_.path() / name);
    save_model(folder_.path() / "plain", *model, nullptr, {.dtype = at::kFloat});
  }
  // Prompts that share a beginning, that are longer than a pass, that have several answers.
  static std::vector<Request> requests() {
    std::vector<Request> result;
    for (const int64_t length : {1, 20, 35, 36, 130}) {
      std::vector<TokenId> prompt(static_cast<size_t>(length));
      for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<TokenId>(3 + i * 7 % 90);
      result.push_back(testing::greedy_request(prompt, 24));
      result.back().sampling.ignore_eos = true;
    }
    result[1].n = 2;
    result[1].sampling.temperature = 1;
    result[1].sampling.seed = 5;
    return result;
  }
  std::vector<Answers> answers(at::Device device, const EngineConfig& config) const {
    const auto model = load_model(open_model(folder_.path() / "plain"), at::kFloat, device);
    Engine engine(*model, tokenizer_, config);
    std::vector<Request> asked = requests();
    std::vector<Answers> result(asked.size());
    for (size_t i = 0; i < asked.size(); ++i)
      engine.submit(std::move(asked[i]), result[i].listener());
    testing::finish_all(engine);
    return result;
  }
  void expect_the_cpus_answers(const EngineConfig& config) const {
    const std::vector<Answers> here = answers(device(), config), there = answers(at::kCPU, {});
    for (size_t i = 0; i < here.size(); ++i) {
      EXPECT_TRUE(here[i].ended);
      EXPECT_EQ(here[i].result.error, nullptr);
      EXPECT_EQ(here[i].tokens, there[i].tokens) << "request " << i;
    }
  }
  at::Tensor logits_of(const Llama& model) const {
    const at::NoGradGuard no_grad;
    PackedSequences context(40, device());
    const at::Tensor ids = at::arange(3, 43, at::kLong).to(device());
    return model.logits(model.forward(ids, context)).cpu();
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"a", "b"});
};
INSTANTIATE_TEST_SUITE_P(Device, DeviceAnswers, testing::each_device(), testing::device_name);

TEST_P(DeviceAnswers, AreTheCpus) { expect_the_cpus_answers({.max_step_tokens = 64}); }

TEST_P(DeviceAnswers, AreTheSameWithGuesses) {
  expect_the_cpus_answers({.max_step_tokens = 64, .speculate = "lookup"});
}

TEST_P(DeviceAnswers, EndWithKeysAndValuesInInt8) {
  for (const Answers& answer : answers(device(), {.max_step_tokens = 64, .kv_dtype = "int8"})) {
    EXPECT_EQ(answer.result.error, nullptr);
    EXPECT_EQ(answer.tokens.at(0).size(), 24U);
  }
}

// In the form that answers take, in the form that gradients take, and in a type without operators.
TEST_P(DeviceAnswers, OfQuantizedWeightsAreTheirNumbers) {
  for (const auto& [bits, group] : {std::pair<int64_t, int64_t>{4, 32}, {8, -1}, {8, 32}}) {
    const fs::path folder = folder_.path() / "quantized";
    QuantizeOptions options;
    options.quantization = {.bits = bits, .group_size = group, .activations = "float"};
    options.quantization.lm_head = options.quantization.embed_tokens = true;
    quantize_model(open_model(folder_.path() / "plain"), folder, options);
    const auto logits = [&](const OpenModel& open, at::ScalarType type, ModelUse use) {
      return logits_of(*load_model(open, type, device(), use));
    };
    const auto plain = [&](at::ScalarType type) {
      return logits(with_plain_weights(open_model(folder)), type, ModelUse::kAnswers);
    };
    const at::Tensor expected = plain(at::kFloat);
    const double rounding = testing::rms_difference(plain(at::kBFloat16), expected);
    for (const ModelUse use : {ModelUse::kAnswers, ModelUse::kTraining}) {
      for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
        const double tolerance = type == at::kFloat ? 1e-4 : 1.5 * rounding;
        const at::Tensor got = logits(open_model(folder), type, use);
        EXPECT_LT(testing::rms_difference(got, expected), tolerance)
            << bits << " bits, groups of " << group << ", "
            << (use == ModelUse::kAnswers ? "answers in " : "training in ") << type;
      }
    }
  }
}

}  // namespace
}  // namespace llama2zh
