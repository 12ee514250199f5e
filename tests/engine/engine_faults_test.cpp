// What goes wrong in one request stays there.
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <thread>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/engine/paged_batch.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

class EngineFaults : public ::testing::Test {
 protected:
  std::string refusal(const Request& request) {
    try {
      engine_.submit(request, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  // A healthy request gets its answer.
  void expect_it_goes_on() {
    Answers answers;
    engine_.submit(greedy_request({1, 40, 41}, 4), answers.listener());
    finish_all(engine_);
    ASSERT_TRUE(answers.ended);
    EXPECT_FALSE(answers.result.error);
    EXPECT_FALSE(answers.ids().empty());
    EXPECT_EQ(engine_.stats().used_blocks, 0);
    EXPECT_EQ(engine_.stats().running + engine_.stats().waiting, 0);
  }
  static EngineConfig small() {
    EngineConfig config;
    config.max_running = 4;
    config.max_step_tokens = 32;
    return config;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "Q"});
  std::unique_ptr<Llama> model_ =
      random_model(testing::small_config(tokenizer_.vocab_size(), 128), 11, at::kFloat, at::kCPU);
  Engine engine_{*model_, tokenizer_, small()};
};

TEST_F(EngineFaults, BadRequestsAreRefusedAtOnce) {
  EXPECT_NE(refusal(greedy_request({}, 4)).find("no tokens"), std::string::npos);
  EXPECT_NE(refusal(greedy_request(std::vector<TokenId>(128, 5), 4)).find("128 tokens"),
            std::string::npos);
  EXPECT_NE(refusal(greedy_request({1, 9999}, 4)).find("token 1 is 9999"), std::string::npos);
  Request request = greedy_request({1}, 4);
  request.sampling.stop_ids = {-1};
  EXPECT_NE(refusal(request).find("stop_ids"), std::string::npos);
  request = greedy_request({1}, 4);
  request.n = 5;
  EXPECT_NE(refusal(request).find("max_running is 4"), std::string::npos);
  request.n = 3;
  request.best_of = 2;
  EXPECT_NE(refusal(request).find("best_of"), std::string::npos);
  request = greedy_request({1}, 4);
  request.sampling.logit_bias = {"7:1"};
  EXPECT_NE(refusal(request).find("ID=BIAS"), std::string::npos);
  request.sampling.logit_bias = {"99999=1"};
  EXPECT_NE(refusal(request).find("99999"), std::string::npos);
  expect_it_goes_on();
}

TEST_F(EngineFaults, APromptBeyondTheCacheIsRefusedAndAnswersEndWithIt) {
  EngineConfig config = small();
  const int64_t block = PageStore(model_->config, 1, at::kFloat, at::kCPU).block_bytes();
  config.kv_cache_gib = 2.5 * static_cast<double>(block) / (1 << 30);
  Engine tiny(*model_, tokenizer_, config);
  EXPECT_EQ(tiny.stats().failed, 0);
  EXPECT_THROW(tiny.submit(greedy_request(std::vector<TokenId>(33, 5), 4), {}), Error);
  std::vector<Answers> answers(3);
  for (Answers& answer : answers) {
    Request request = greedy_request(std::vector<TokenId>(20, 5), 100);
    request.sampling.ignore_eos = true;
    tiny.submit(request, answer.listener());
  }
  finish_all(tiny);
  for (const Answers& answer : answers) {
    EXPECT_EQ(answer.ids().size(), 13u);  // 32 places, and the last token needs none
    EXPECT_EQ(answer.finish_reason.at(0), "length");
  }
}

TEST_F(EngineFaults, LogitsThatAreNotFiniteFailTheirRequestAlone) {
  model_->embed_tokens[77].fill_(NAN);
  Answers broken, healthy;
  engine_.submit(greedy_request({1, 77}, 8), broken.listener());
  engine_.submit(greedy_request({1, 40}, 8), healthy.listener());
  finish_all(engine_);
  ASSERT_TRUE(broken.ended && broken.result.error);
  EXPECT_THROW(std::rethrow_exception(broken.result.error), Error);
  EXPECT_TRUE(broken.result.completions.empty());
  EXPECT_FALSE(healthy.result.error);
  EXPECT_EQ(engine_.stats().failed, 1);
  expect_it_goes_on();
}

// A score and an embedding are read off the pass itself, in which others are too.
TEST_F(EngineFaults, ScoresThatAreNotFiniteFailTheirRequestAlone) {
  model_->embed_tokens[77].fill_(NAN);
  Answers broken, embedded, healthy;
  Request score = greedy_request({1, 77, 5}, 1);
  score.kind = RequestKind::kScore;
  engine_.submit(score, broken.listener());
  Request embedding = greedy_request({1, 77, 5}, 1);
  embedding.kind = RequestKind::kMeanEmbedding;
  engine_.submit(embedding, embedded.listener());
  engine_.submit(greedy_request({1, 40}, 8), healthy.listener());
  finish_all(engine_);
  EXPECT_TRUE(broken.ended && broken.result.error);
  EXPECT_TRUE(embedded.ended && embedded.result.error);
  EXPECT_FALSE(healthy.result.error);
  EXPECT_EQ(healthy.ids().size(), 8u);
  expect_it_goes_on();
}

TEST_F(EngineFaults, ADraftModelsGuessesThatAreNotFiniteFailTheirRequestAlone) {
  const auto draft =
      random_model(testing::small_config(tokenizer_.vocab_size(), 128), 5, at::kFloat, at::kCPU);
  draft->embed_tokens[77].fill_(NAN);
  EngineConfig config = small();
  config.speculate = "draft";
  Engine engine(*model_, tokenizer_, config, {.draft = draft.get()});
  Answers broken, healthy;
  engine.submit(greedy_request({1, 77}, 8), broken.listener());
  engine.submit(greedy_request({1, 40}, 8), healthy.listener());
  finish_all(engine);
  EXPECT_TRUE(broken.ended && broken.result.error);
  EXPECT_FALSE(healthy.result.error);
  Answers alone;
  engine_.submit(greedy_request({1, 40}, 8), alone.listener());
  finish_all(engine_);
  EXPECT_EQ(healthy.ids(), alone.ids());
  EXPECT_EQ(engine.stats().used_blocks, 0);
}

TEST_F(EngineFaults, AFailedPassEndsItsRequestsAndNoOthers) {
  const at::Tensor weight = model_->layers[1].mlp.down_proj.weight;
  Answers first, second;
  engine_.submit(greedy_request({1, 40}, 8), first.listener());
  engine_.step();
  model_->layers[1].mlp.down_proj.weight = weight.narrow(1, 0, 5);  // no such product
  engine_.step();
  model_->layers[1].mlp.down_proj.weight = weight;
  ASSERT_TRUE(first.ended);
  EXPECT_TRUE(first.result.error);
  expect_it_goes_on();
}

TEST_F(EngineFaults, CancelledWhereverTheyAre) {
  std::vector<Answers> answers(7);
  std::vector<RequestId> ids;
  for (size_t i = 0; i < answers.size(); ++i) {
    Request request = greedy_request(std::vector<TokenId>(40, static_cast<TokenId>(50 + i)), 60);
    request.sampling.ignore_eos = true;
    if (i == 1) request.n = 2;
    ids.push_back(engine_.submit(request, answers[i].listener()));
  }
  engine_.cancel(ids[6]);  // never seen by the scheduler
  engine_.step();
  EXPECT_TRUE(answers[6].ended);
  EXPECT_TRUE(answers[6].result.cancelled);
  for (int i = 0; i < 4; ++i) engine_.step();
  engine_.cancel(ids[0]);  // answering
  engine_.cancel(ids[1]);
  engine_.cancel(ids[5]);  // waiting
  engine_.cancel(12345);
  engine_.step();
  for (const size_t i : {0u, 1u, 5u}) {
    EXPECT_TRUE(answers[i].ended) << i;
    EXPECT_EQ(answers[i].result.completions.at(0).finish_reason, "cancelled");
    EXPECT_EQ(answers[i].result.completions.at(0).text, answers[i].text[0]);
  }
  EXPECT_FALSE(answers[2].ended);
  finish_all(engine_);
  for (const size_t i : {2u, 3u, 4u}) EXPECT_EQ(answers[i].ids().size(), 60u) << i;
  EXPECT_EQ(engine_.stats().cancelled, 4);
  expect_it_goes_on();
}

TEST_F(EngineFaults, ListenersMayCancelAndThrow) {
  Answers other;
  int events = 0;
  engine_.submit(greedy_request({1, 40}, 50), [&](const RequestEvent& event) {
    if (event.result != nullptr) return;
    ++events;
    throw std::runtime_error("the listener's own fault");
  });
  RequestId id = 0;
  Answers cancelling;
  id = engine_.submit(greedy_request({1, 41}, 50),
                      [&, inner = cancelling.listener()](const RequestEvent& event) {
                        inner(event);
                        engine_.cancel(id);
                      });
  engine_.submit(greedy_request({1, 42}, 5), other.listener());
  finish_all(engine_);
  EXPECT_EQ(events, 1);
  EXPECT_TRUE(cancelling.result.cancelled);
  EXPECT_EQ(cancelling.ids().size(), 1u);
  EXPECT_FALSE(other.result.cancelled);
  expect_it_goes_on();
}

TEST_F(EngineFaults, StoppingCancelsWhatIsLeft) {
  std::vector<Answers> answers(6);
  {
    const EngineThread thread(engine_);
    for (size_t i = 0; i < answers.size(); ++i)
      engine_.submit(greedy_request({1, static_cast<TokenId>(40 + i)}, 100), answers[i].listener());
  }
  for (const Answers& answer : answers) EXPECT_TRUE(answer.ended);
  EXPECT_EQ(engine_.stats().used_blocks, 0);
}

TEST_F(EngineFaults, SettingsThatCannotWorkAreRefused) {
  EngineConfig config = small();
  config.max_step_tokens = 19;
  EXPECT_THROW(Engine(*model_, tokenizer_, config), Error);
  config = small();
  config.kv_cache_gib = 1e-9;
  EXPECT_THROW(Engine(*model_, tokenizer_, config), Error);
}

}  // namespace
}  // namespace llama2zh
