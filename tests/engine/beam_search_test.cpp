// Beam search against transformers' on stories260K (tests/reference/beams.json), and against itself
// where memory is short.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/engine/paged_batch.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

Request beam_request(const json& test) {
  Request request = greedy_request(test["prompt"].get<std::vector<TokenId>>(),
                                   test["max_new_tokens"].get<int64_t>());
  request.sampling.num_beams = test["num_beams"].get<int64_t>();
  request.sampling.stop_ids = test["stop_ids"].get<std::vector<int64_t>>();
  request.sampling.length_penalty = test.value("length_penalty", 1.0);
  request.sampling.early_stopping = test.value("early_stopping", "false");
  request.sampling.repetition_penalty = test.value("repetition_penalty", 1.0);
  request.sampling.min_tokens = test.value("min_tokens", 0);
  request.n = test.value("n", 1);
  return request;
}

class BeamsOfTransformers : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path data = testing::shared_data();
    if (data.empty()) GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
    LoadRequest load;
    load.model = data / "weights/stories260K_hf";
    load.tokenizer = data / "tokenizers/tok512_from_bin.model";
    loaded_ = load_for_inference(load);
  }
  // All cases at once, so that beams of many requests run together.
  void expect_reference(const EngineConfig& config) {
    const json reference = read_json_file(testing::source_dir() / "tests/reference/beams.json");
    Engine engine(*loaded_.model, *loaded_.tokenizer, config);
    std::vector<Answers> answers(reference["cases"].size());
    ASSERT_GE(answers.size(), 40u);
    for (size_t i = 0; i < answers.size(); ++i)
      engine.submit(beam_request(reference["cases"][i]), answers[i].listener());
    for (int64_t steps = 0; engine.step(); ++steps) ASSERT_LT(steps, 100000) << "no progress";
    for (size_t i = 0; i < answers.size(); ++i) {
      const json& expected = reference["cases"][i]["answers"];
      const std::vector<Completion>& got = answers[i].result.completions;
      ASSERT_EQ(got.size(), expected.size()) << i;
      for (size_t k = 0; k < got.size(); ++k) {
        EXPECT_EQ(got[k].ids, expected[k]["ids"].get<std::vector<TokenId>>()) << i << " " << k;
        EXPECT_NEAR(got[k].beam_score, expected[k]["score"].get<double>(), 1e-4);
        EXPECT_EQ(got[k].text, answers[i].text[static_cast<int64_t>(k)]);
      }
    }
    EXPECT_EQ(engine.stats().used_blocks, 0);
    preemptions_ = engine.stats().preemptions;
  }

  LoadedModel loaded_;
  int64_t preemptions_ = 0;
};

TEST_F(BeamsOfTransformers, AreTheSameTokens) {
  EngineConfig config;
  config.max_running = 64;
  expect_reference(config);
}

TEST_F(BeamsOfTransformers, AlsoWhereBlocksAreFew) {
  EngineConfig config;
  config.max_running = 9;
  config.max_step_tokens = 25;
  const int64_t block = PageStore(loaded_.model->config, 1, at::kFloat, at::kCPU).block_bytes();
  // Fewer than the eight beams of one request take, were they not to share.
  config.kv_cache_gib = 9.5 * static_cast<double>(block) / (1 << 30);
  expect_reference(config);
  EXPECT_GT(preemptions_, 10);
}

class Beams : public ::testing::Test {
 protected:
  Answers answer(const Request& request) {
    Engine engine(*model_, tokenizer_);
    Answers answers;
    engine.submit(request, answers.listener());
    finish_all(engine);
    EXPECT_EQ(engine.stats().used_blocks, 0);
    return answers;
  }
  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "cS", "TO", "Px", "Q"});
  std::unique_ptr<Llama> model_ =
      random_model(testing::small_config(tokenizer_.vocab_size(), 128), 11, at::kFloat, at::kCPU);
};

TEST_F(Beams, LogprobsAddUpToTheScore) {
  Request request = greedy_request({1, 40, 41}, 12);
  request.sampling.ignore_eos = true;
  request.sampling.num_beams = 3;
  request.n = 3;
  request.logprobs = 2;
  const Answers answers = answer(request);
  ASSERT_EQ(answers.result.completions.size(), 3u);
  double before = 0;
  for (const Completion& one : answers.result.completions) {
    ASSERT_EQ(one.tokens.size(), 12u);
    double sum = 0;
    for (size_t t = 0; t < 12; ++t) {
      EXPECT_EQ(one.tokens[t].id, one.ids[t]);
      EXPECT_EQ(one.tokens[t].top.size(), 2u);
      sum += one.tokens[t].logprob;
    }
    EXPECT_NEAR(sum / 12, one.beam_score, 1e-4);
    EXPECT_LE(one.beam_score, before);
    before = one.beam_score;
  }
}

TEST_F(Beams, StopTextsEndABeam) {
  model_ = testing::chain_model(tokenizer_.vocab_size(), {260, 261, 262, 263, 264}, 64);
  model_->lm_head.weight.mul_(20);  // sure of its words
  Request request = greedy_request({1}, 20);
  request.sampling.num_beams = 3;
  request.sampling.stop = {"STOP"};
  const Answers answers = answer(request);
  EXPECT_EQ(answers.text.at(0), "abc");
  EXPECT_EQ(answers.finish_reason.at(0), "stop");
  EXPECT_EQ(answers.ids(), (std::vector<TokenId>{260, 261, 262, 263}));
}

TEST_F(Beams, BadOptionsAreRefused) {
  Engine engine(*model_, tokenizer_, {.max_running = 4});
  const auto refused = [&](Request request) {
    try {
      engine.submit(std::move(request), {});
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kUsage;
    }
    return false;
  };
  Request request = greedy_request({1}, 4);
  request.sampling.num_beams = 3;
  request.sampling.temperature = 0.5;
  EXPECT_TRUE(refused(request));
  request.sampling.temperature = 0;
  request.n = 4;
  EXPECT_TRUE(refused(request));
  request.n = 1;
  request.sampling.num_beams = 5;
  EXPECT_TRUE(refused(request));
  request.sampling.num_beams = 4;
  EXPECT_FALSE(refused(request));
}

TEST_F(Beams, CancelledAndFailed) {
  Engine engine(*model_, tokenizer_);
  Answers cancelled, failed;
  Request request = greedy_request({1, 40}, 50);
  request.sampling.ignore_eos = true;
  request.sampling.num_beams = 4;
  const RequestId id = engine.submit(request, cancelled.listener());
  for (int i = 0; i < 5; ++i) engine.step();
  engine.cancel(id);
  engine.step();
  EXPECT_TRUE(cancelled.ended && cancelled.result.cancelled);
  model_->embed_tokens[77].fill_(NAN);
  request.prompt = {1, 77};
  engine.submit(request, failed.listener());
  finish_all(engine);
  EXPECT_TRUE(failed.result.error);
  EXPECT_EQ(engine.stats().used_blocks, 0);
}

}  // namespace
}  // namespace llama2zh
