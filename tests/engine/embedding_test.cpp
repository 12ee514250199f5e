#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

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

class Embedding : public ::testing::Test {
 protected:
  static Request embedding_of(std::vector<TokenId> prompt, RequestKind kind) {
    Request request = greedy_request(std::move(prompt), 1);
    request.kind = kind;
    return request;
  }
  static std::vector<TokenId> some_text(size_t length, TokenId step) {
    std::vector<TokenId> ids = {1};
    while (ids.size() < length)
      ids.push_back(static_cast<TokenId>(3 + ids.size() * static_cast<size_t>(step) % 200));
    return ids;
  }
  // Hidden states [T, H] in one pass.
  at::Tensor hidden(const std::vector<TokenId>& ids) {
    const std::vector<int64_t> wide(ids.begin(), ids.end());
    PackedSequences context(static_cast<int64_t>(ids.size()), at::kCPU);
    return model_->forward(at::tensor(wide), context);
  }
  static void expect_near(const std::vector<float>& got, const at::Tensor& expected) {
    ASSERT_EQ(static_cast<int64_t>(got.size()), expected.numel());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_NEAR(got[i], expected[static_cast<int64_t>(i)].item<float>(), 1e-4);
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "Q"});
  std::unique_ptr<Llama> model_ =
      random_model(testing::small_config(tokenizer_.vocab_size(), 128), 11, at::kFloat, at::kCPU);
};

TEST_F(Embedding, IsTheMeanOrTheLastHiddenStateAmongAnswers) {
  EngineConfig config;
  config.max_running = 6;
  config.max_step_tokens = 24;  // prompts come in chunks
  const int64_t block = PageStore(model_->config, 1, at::kFloat, at::kCPU).block_bytes();
  config.kv_cache_gib = 12.5 * static_cast<double>(block) / (1 << 30);  // and are computed anew
  Engine engine(*model_, tokenizer_, config);
  std::vector<Answers> answers(9);
  std::vector<std::vector<TokenId>> texts;
  for (size_t i = 0; i < answers.size(); ++i) {
    texts.push_back(some_text(1 + i * 10, static_cast<TokenId>(i % 2 + 5)));
    Request request = greedy_request(texts[i], 60);
    request.sampling.ignore_eos = true;
    if (i % 3 > 0)
      request.kind = i % 3 == 1 ? RequestKind::kMeanEmbedding : RequestKind::kLastEmbedding;
    engine.submit(request, answers[i].listener());
    engine.step();
  }
  finish_all(engine);
  EXPECT_GT(engine.stats().preemptions, 0);
  EXPECT_EQ(engine.stats().used_blocks, 0);
  for (size_t i = 0; i < answers.size(); ++i) {
    const RequestResult& result = answers[i].result;
    ASSERT_TRUE(answers[i].ended && !result.error) << i;
    EXPECT_EQ(result.completions.size(), i % 3 == 0 ? 1u : 0u);
    const at::Tensor all = hidden(texts[i]);
    if (i % 3 == 0) {
      EXPECT_TRUE(result.embedding.empty());
    } else {
      expect_near(result.embedding, i % 3 == 1 ? all.mean(0) : all[all.size(0) - 1]);
    }
  }
}

TEST_F(Embedding, CachedBlocksDoNotSpoilTheMean) {
  Engine engine(*model_, tokenizer_);
  const std::vector<TokenId> text = some_text(70, 7);
  for (int i = 0; i < 2; ++i) {
    Answers mean, last;
    engine.submit(embedding_of(text, RequestKind::kMeanEmbedding), mean.listener());
    finish_all(engine);
    engine.submit(embedding_of(text, RequestKind::kLastEmbedding), last.listener());
    finish_all(engine);
    EXPECT_EQ(last.result.cached_tokens, 64);
    expect_near(mean.result.embedding, hidden(text).mean(0));
    expect_near(last.result.embedding, hidden(text)[69]);
  }
}

TEST_F(Embedding, NormalizedHasLengthOne) {
  Engine engine(*model_, tokenizer_);
  Request request = embedding_of(some_text(9, 7), RequestKind::kMeanEmbedding);
  request.normalize = true;
  Answers answers;
  engine.submit(request, answers.listener());
  finish_all(engine);
  const at::Tensor mean = hidden(request.prompt).mean(0);
  expect_near(answers.result.embedding, mean / mean.norm());
}

TEST_F(Embedding, TheWholeContextFitsAndNoMore) {
  Engine engine(*model_, tokenizer_);
  Answers answers;
  engine.submit(embedding_of(some_text(128, 7), RequestKind::kMeanEmbedding), answers.listener());
  finish_all(engine);
  EXPECT_EQ(answers.result.embedding.size(), 32u);
  EXPECT_THROW(engine.submit(embedding_of(some_text(129, 7), RequestKind::kMeanEmbedding), {}),
               Error);
  Request several = embedding_of({1}, RequestKind::kLastEmbedding);
  several.n = 2;
  EXPECT_THROW(engine.submit(several, {}), Error);
}

TEST_F(Embedding, HiddenStatesThatAreNotFiniteFailTheirRequest) {
  Engine engine(*model_, tokenizer_);
  model_->embed_tokens[77].fill_(NAN);
  Answers broken, healthy;
  engine.submit(embedding_of({1, 77}, RequestKind::kMeanEmbedding), broken.listener());
  engine.submit(embedding_of({1, 40}, RequestKind::kMeanEmbedding), healthy.listener());
  finish_all(engine);
  EXPECT_TRUE(broken.result.error);
  EXPECT_FALSE(healthy.result.error);
}

}  // namespace
}  // namespace llama2zh
