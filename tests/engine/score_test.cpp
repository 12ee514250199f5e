#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/engine/engine.h"
#include "llama2zh/engine/paged_batch.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

// Scores of several prompts, in chunks, among answers and computed anew for want of memory, against
// one plain pass.
TEST(Score, IsTheLogProbabilityOfEachToken) {
  testing::TempFolder folder;
  const Tokenizer tokenizer = testing::tiny_tokenizer(folder.path(), {"ab", "Q"});
  const std::unique_ptr<Llama> model =
      random_model(testing::small_config(tokenizer.vocab_size(), 128), 11, at::kFloat, at::kCPU);
  EngineConfig config;
  config.max_running = 4;
  config.max_step_tokens = 20;
  const int64_t block = PageStore(model->config, 1, at::kFloat, at::kCPU).block_bytes();
  config.kv_cache_gib = 9.5 * static_cast<double>(block) / (1 << 30);
  Engine engine(*model, tokenizer, config);
  std::vector<Answers> answers(6);
  const size_t lengths[] = {30, 112, 54, 66, 78, 90};  // the first answer takes the second's blocks
  std::vector<std::vector<TokenId>> prompts;
  for (size_t i = 0; i < answers.size(); ++i) {
    std::vector<TokenId> prompt = {1};  // alike at first: a score can't use what is cached
    while (prompt.size() < lengths[i])
      prompt.push_back(
          static_cast<TokenId>(3 + prompt.size() * (prompt.size() > 20 ? i + 3 : 2) % 200));
    prompts.push_back(prompt);
    Request request = greedy_request(prompt, i % 3 == 0 ? 20 : 1);
    if (i % 3 != 0) {
      request.kind = RequestKind::kScore;
      request.logprobs = 3;
    }
    engine.submit(request, answers[i].listener());
  }
  finish_all(engine);
  EXPECT_GT(engine.stats().preemptions, 0);
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::vector<SampledToken>& scores = answers[i].result.prompt_scores;
    if (i % 3 == 0) {
      EXPECT_TRUE(scores.empty());
      continue;
    }
    const std::vector<TokenId>& prompt = prompts[i];
    ASSERT_EQ(scores.size(), prompt.size());
    const std::vector<int64_t> wide(prompt.begin(), prompt.end());
    PackedSequences context(std::ssize(prompt), at::kCPU);
    const at::NoGradGuard no_grad;
    const at::Tensor expected =
        at::log_softmax(model->logits(model->forward(at::tensor(wide), context)), -1);
    for (size_t t = 1; t < prompt.size(); ++t) {
      const at::Tensor row = expected[static_cast<int64_t>(t) - 1];
      EXPECT_EQ(scores[t].id, prompt[t]);
      EXPECT_NEAR(scores[t].logprob, row[prompt[t]].item<float>(), 1e-4);
      ASSERT_EQ(scores[t].top.size(), 3u);
      EXPECT_NEAR(scores[t].top[0].logprob, row.max().item<float>(), 1e-4);
    }
    EXPECT_TRUE(answers[i].result.completions.empty());
  }
}

// The next token's scores against one plain pass; the second prompt begins with what the first left in
// the cache, and both may fill the whole context.
TEST(Score, OfTheNextTokenUsesTheCache) {
  testing::TempFolder folder;
  const Tokenizer tokenizer = testing::tiny_tokenizer(folder.path(), {"ab", "Q"});
  const std::unique_ptr<Llama> model =
      random_model(testing::small_config(tokenizer.vocab_size(), 64), 11, at::kFloat, at::kCPU);
  Engine engine(*model, tokenizer, {});
  std::vector<TokenId> prompt = {1};
  while (prompt.size() < 64) prompt.push_back(static_cast<TokenId>(3 + prompt.size() * 7 % 200));
  for (const TokenId last : {5, 6}) {
    prompt.back() = last;
    Request request;
    request.prompt = prompt;
    request.kind = RequestKind::kNextToken;
    request.next_ids = {9, 4, 9};
    Answers answer;
    engine.submit(request, answer.listener());
    finish_all(engine);
    ASSERT_FALSE(answer.result.error);
    EXPECT_EQ(answer.result.cached_tokens, last == 5 ? 0 : 48);
    ASSERT_EQ(answer.result.next_scores.size(), 3u);
    const std::vector<int64_t> wide(prompt.begin(), prompt.end());
    PackedSequences context(64, at::kCPU);
    const at::NoGradGuard no_grad;
    const at::Tensor expected =
        at::log_softmax(model->logits(model->forward(at::tensor(wide), context)), -1)[63];
    for (size_t i = 0; i < 3; ++i) {
      const TokenLogprob& got = answer.result.next_scores[i];
      EXPECT_EQ(got.id, request.next_ids[i]);
      EXPECT_NEAR(got.logprob, expected[got.id].item<float>(), 1e-4);
    }
  }
  Request empty;
  empty.prompt = {1};
  empty.kind = RequestKind::kNextToken;
  EXPECT_THROW(engine.submit(empty, [](const RequestEvent&) {}), Error);
  empty.next_ids = {static_cast<TokenId>(tokenizer.vocab_size())};
  EXPECT_THROW(engine.submit(empty, [](const RequestEvent&) {}), Error);
}

}  // namespace
}  // namespace llama2zh
