// With `deterministic` an answer's logits have the same bits alone and among others.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/random.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/model/quantize.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

struct Kind {
  const char* name;
  at::ScalarType type;
  bool quantized = false, lora = false, dora = false;
  int bits = 8;
  bool head = false;  // quantized too
  const char* kv = "auto";
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class Deterministic : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    LlamaConfig config = testing::small_config(tokenizer_.vocab_size(), 256);
    config.hidden_size = 128;  // sums long enough for their order to matter
    config.intermediate_size = 192;
    config.num_attention_heads = 4;
    config.head_dim = 32;
    model_ = random_model(config, 11, GetParam().type, at::kCPU);
    if (GetParam().lora) add_lora();
    const auto quantize = [](const std::string&, Linear& linear) {
      linear.quantized = std::make_shared<const QuantizedMatrix>(
          quantize_rows(linear.weight, GetParam().bits, /*group_size=*/32));
      linear.weight.reset();
    };
    if (GetParam().quantized) model_->for_each_projection(quantize);
    if (GetParam().head) quantize("lm_head", model_->lm_head);
  }
  void add_lora() {
    LoraConfig lora;
    lora.use_dora = GetParam().dora;
    lora.modules_to_save = {};
    inject_lora(*model_, lora, 5);
    const at::NoGradGuard no_grad;
    model_->for_each_projection([](const std::string&, Linear& linear) {
      linear.lora->b = linear.lora->b.detach().clone().uniform_(-0.1, 0.1);
      linear.lora->a = linear.lora->a.detach();
      if (linear.lora->magnitude.defined())
        linear.lora->magnitude = linear.lora->magnitude.detach();
    });
  }
  // Prompts of 1 to 90 tokens; 9 of them together have chunks and single tokens in one pass.
  static std::vector<Request> some_requests() {
    Random random(3);
    std::vector<Request> requests;
    for (size_t i = 0; i < 9; ++i) {
      std::vector<TokenId> prompt = {1};
      const uint64_t more = random.below(90);
      for (uint64_t t = 0; t < more; ++t)
        prompt.push_back(static_cast<TokenId>(3 + random.below(250)));
      Request request = greedy_request(prompt, 24);
      request.sampling.ignore_eos = true;
      request.logprobs = 5;
      requests.push_back(request);
    }
    return requests;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "Q"});
  std::unique_ptr<Llama> model_;
};

TEST_P(Deterministic, BitsAloneAreTheBitsInABatch) {
  EngineConfig config;
  config.deterministic = true;
  config.kv_dtype = GetParam().kv;
  config.max_step_tokens = 48;
  const std::vector<Request> requests = some_requests();
  std::vector<Answers> together(requests.size());
  Engine engine(*model_, tokenizer_, config);
  for (size_t i = 0; i < requests.size(); ++i) engine.submit(requests[i], together[i].listener());
  finish_all(engine);
  config.max_step_tokens = 512;
  for (size_t i = 0; i < requests.size(); ++i) {
    Engine own(*model_, tokenizer_, config);
    Answers alone;
    own.submit(requests[i], alone.listener());
    finish_all(own);
    EXPECT_EQ(together[i].ids(), alone.ids());
    const auto& a = together[i].result.completions[0].tokens;
    const auto& b = alone.result.completions[0].tokens;
    ASSERT_EQ(a.size(), b.size());
    for (size_t t = 0; t < a.size(); ++t) {
      ASSERT_EQ(a[t].top.size(), 5u);
      for (size_t k = 0; k < 5; ++k) {
        ASSERT_EQ(a[t].top[k].id, b[t].top[k].id);
        ASSERT_EQ(a[t].top[k].logprob, b[t].top[k].logprob)  // to the last bit
            << "request " << i << ", token " << t;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Types, Deterministic,
    ::testing::Values(
        Kind{"float32", at::kFloat}, Kind{"bfloat16", at::kBFloat16},
        Kind{"int8", at::kFloat, true}, Kind{"int8 and bfloat16", at::kBFloat16, true},
        Kind{"int4 with its head", at::kBFloat16, true, false, false, 4, true},
        Kind{"int8 keys and values", at::kBFloat16, true, false, false, 4, false, "int8"},
        Kind{"LoRA", at::kFloat, false, true}, Kind{"LoRA on int8", at::kBFloat16, true, true},
        Kind{"DoRA", at::kFloat, false, true, true}));

}  // namespace
}  // namespace llama2zh
