// Several adapters on one base, in one batch.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/engine/session.h"
#include "llama2zh/model/lora.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

class AdaptersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path folder = folder_.path() / "model";
    fs::create_directories(folder);
    const auto model =
        random_model(testing::small_config(tokenizer_.vocab_size(), 256), 4, at::kFloat, at::kCPU);
    save_model(folder, *model, &tokenizer_, {});
    load_.model = folder;
    LoraConfig lora;
    lora.rank = 4;
    lora.target_modules = {"q_proj", "v_proj"};
    lora.modules_to_save = {};
    save_adapter("narrow", lora);
    lora.rank = 16;
    lora.use_rslora = true;
    lora.target_modules = {"k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    lora.modules_to_save = {"embed_tokens", "lm_head"};
    save_adapter("wide", lora);
    lora.use_dora = true;
    lora.modules_to_save = {};
    save_adapter("dora", lora);
  }
  void save_adapter(const std::string& name, const LoraConfig& lora, int64_t vocabulary = 0) {
    const LlamaConfig config =
        testing::small_config(vocabulary > 0 ? vocabulary : tokenizer_.vocab_size(), 256);
    const auto model = random_model(config, 4, at::kFloat, at::kCPU);
    inject_lora(*model, lora, 9);
    const at::NoGradGuard no_grad;
    model->for_each_projection([](const std::string&, Linear& linear) {
      if (!linear.lora) return;
      linear.lora->b.copy_(at::randn(linear.lora->b.sizes()) * 0.1);
      if (linear.lora->magnitude.defined()) linear.lora->magnitude.mul_(1.2);
    });
    for (const std::string& module : lora.modules_to_save) {
      at::Tensor& weight = module == "lm_head" ? model->lm_head.weight : model->embed_tokens;
      weight.add_(at::randn(weight.sizes()) * 0.1);
    }
    fs::create_directories(folder_.path() / name);
    write_peft_adapter(folder_.path() / name, extract_adapter(*model, lora, "model", at::kFloat),
                       true);
  }
  LoadedModel load_named() {
    LoadRequest request = load_;
    for (const char* name : {"narrow", "wide", "dora"})
      request.named_adapters.emplace_back(name, folder_.path() / name);
    return load_for_inference(request);
  }
  static Request ask(const std::string& adapter, TokenId last) {
    std::vector<TokenId> prompt = {1};
    for (TokenId id = 0; id < 40; ++id) prompt.push_back(30 + id);
    prompt.push_back(last);
    Request request = greedy_request(prompt, 20);
    request.sampling.ignore_eos = true;
    request.logprobs = 3;
    request.adapter = adapter;
    return request;
  }
  static Answers answer(const LoadedModel& loaded, const Request& request,
                        const EngineConfig& config = {}) {
    Engine engine(*loaded.model, *loaded.tokenizer, config, loaded.parts());
    Answers out;
    engine.submit(request, out.listener());
    finish_all(engine);
    return out;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "Q"});
  LoadRequest load_;
};

const std::vector<std::string> kNames = {"", "narrow", "wide", "dora"};

TEST_F(AdaptersTest, EachRowOfABatchHasItsOwn) {
  const LoadedModel loaded = load_named();
  EXPECT_EQ(loaded.adapters->names(), (std::vector<std::string>{"dora", "narrow", "wide"}));
  EngineConfig config;
  config.max_step_tokens = 64;
  Engine engine(*loaded.model, *loaded.tokenizer, config, loaded.parts());
  std::vector<Answers> answers(12);
  for (size_t i = 0; i < answers.size(); ++i) {
    engine.submit(ask(kNames[i % 4], static_cast<TokenId>(80 + i / 4)), answers[i].listener());
    if (i % 3 == 0) engine.step();
  }
  finish_all(engine);
  for (size_t i = 0; i < answers.size(); ++i) {
    // The same adapter put on the model itself.
    LoadRequest request = load_;
    if (i % 4 > 0) request.adapters = {folder_.path() / kNames[i % 4]};
    const Answers expected =
        answer(load_for_inference(request), ask("", static_cast<TokenId>(80 + i / 4)));
    EXPECT_EQ(answers[i].ids(), expected.ids()) << kNames[i % 4];
    if (i % 4 > 0) {
      EXPECT_NE(answers[i].ids(), answers[i - i % 4].ids());
    }
    for (size_t t = 0; t < 20; ++t) {
      EXPECT_NEAR(answers[i].result.completions[0].tokens[t].logprob,
                  expected.result.completions[0].tokens[t].logprob, 1e-3);
    }
  }
  EXPECT_GT(engine.stats().cached_prompt_tokens, 0);
}

TEST_F(AdaptersTest, DeterministicBitsAreTheSameAlone) {
  const LoadedModel loaded = load_named();
  EngineConfig config;
  config.deterministic = true;
  Engine engine(*loaded.model, *loaded.tokenizer, config, loaded.parts());
  std::vector<Answers> answers(8);
  for (size_t i = 0; i < answers.size(); ++i)
    engine.submit(ask(kNames[i % 4], static_cast<TokenId>(80 + i / 4)), answers[i].listener());
  finish_all(engine);
  for (size_t i = 0; i < answers.size(); ++i) {
    const Answers alone =
        answer(loaded, ask(kNames[i % 4], static_cast<TokenId>(80 + i / 4)), config);
    EXPECT_EQ(answers[i].ids(), alone.ids());
    for (size_t t = 0; t < 20; ++t) {
      EXPECT_EQ(answers[i].result.completions[0].tokens[t].logprob,
                alone.result.completions[0].tokens[t].logprob);
    }
  }
}

TEST_F(AdaptersTest, CachedBlocksBelongToTheirAdapter) {
  const LoadedModel loaded = load_named();
  Engine engine(*loaded.model, *loaded.tokenizer, {}, loaded.parts());
  std::vector<Answers> answers(6);
  for (size_t i = 0; i < answers.size(); ++i) {
    engine.submit(ask(i % 2 == 0 ? "narrow" : "", static_cast<TokenId>(80)), answers[i].listener());
    finish_all(engine);
    EXPECT_EQ(answers[i].result.cached_tokens, i < 2 ? 0 : 32);
    EXPECT_EQ(answers[i].ids(), answers[i % 2].ids());
  }
  EXPECT_NE(answers[0].ids(), answers[1].ids());
  // The same name with other weights is another adapter.
  EXPECT_TRUE(loaded.adapters->remove("narrow"));
  loaded.adapters->add("narrow", folder_.path() / "wide");
  Answers other;
  engine.submit(ask("narrow", 80), other.listener());
  finish_all(engine);
  EXPECT_EQ(other.result.cached_tokens, 0);
  EXPECT_EQ(other.ids(), answer(loaded, ask("wide", 80)).ids());
}

TEST_F(AdaptersTest, WhatDoesNotFitIsRefusedAndTheEngineGoesOn) {
  const LoadedModel loaded = load_named();
  Engine engine(*loaded.model, *loaded.tokenizer, {}, loaded.parts());
  const auto refusal = [&](const std::string& name, const fs::path& folder) {
    try {
      loaded.adapters->add(name, folder);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  LoraConfig lora;
  save_adapter("large", lora, tokenizer_.vocab_size() + 10);
  EXPECT_NE(refusal("large", folder_.path() / "large").find("272"), std::string::npos);
  lora.modules_to_save = {};
  save_adapter("other", lora);
  PeftAdapter wrong = read_peft_adapter(folder_.path() / "other");
  wrong.lora["model.layers.0.self_attn.q_proj"].a = at::randn({8, 40});
  fs::create_directories(folder_.path() / "shape");
  write_peft_adapter(folder_.path() / "shape", wrong, true);
  EXPECT_NE(refusal("shape", folder_.path() / "shape").find("[32, 40]"), std::string::npos);
  Manifest manifest;
  manifest.kind = "adapter";
  manifest.base_identity = "0123456789abcdef";
  write_manifest(folder_.path() / "other", manifest);
  EXPECT_NE(refusal("other", folder_.path() / "other").find("another base"), std::string::npos);
  EXPECT_NE(refusal("wide", folder_.path() / "wide").find("two of the name"), std::string::npos);
  EXPECT_NE(refusal("none", folder_.path() / "model").find("no adapter folder"), std::string::npos);
  EXPECT_EQ(loaded.adapters->names().size(), 3u);
  try {
    engine.submit(ask("large", 80), {});
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(error.what()).find("dora, narrow, wide"), std::string::npos);
  }
  Answers healthy;
  engine.submit(ask("wide", 80), healthy.listener());
  finish_all(engine);
  EXPECT_EQ(healthy.ids(), answer(loaded, ask("wide", 80)).ids());
}

TEST_F(AdaptersTest, ARemovedOneStaysForWhoHasIt) {
  const LoadedModel loaded = load_named();
  const std::vector<TokenId> expected = answer(loaded, ask("dora", 80)).ids();
  Engine engine(*loaded.model, *loaded.tokenizer, {}, loaded.parts());
  Answers answers;
  engine.submit(ask("dora", 80), answers.listener());
  engine.step();
  EXPECT_TRUE(loaded.adapters->remove("dora"));
  EXPECT_FALSE(loaded.adapters->remove("dora"));
  finish_all(engine);
  EXPECT_EQ(answers.ids(), expected);
}

}  // namespace
}  // namespace llama2zh
