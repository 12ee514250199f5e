#include "llama2zh/engine/engine.h"

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <set>
#include <thread>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/random.h"
#include "llama2zh/engine/generator.h"
#include "llama2zh/engine/paged_batch.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

class EngineTest : public ::testing::Test {
 protected:
  std::unique_ptr<Llama> make_model(int64_t context = 256) {
    return random_model(testing::small_config(tokenizer_.vocab_size(), context), 11, at::kFloat,
                        at::kCPU);
  }
  std::vector<TokenId> alone(const Request& request) {
    return Generator(*model_, tokenizer_)
        .generate(request.prompt, request.sampling, request.extra_stops)
        .ids;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "cS", "TO", "Px", "Q"});
  std::unique_ptr<Llama> model_ = make_model();
};

// Prompts of 1 to 120 tokens, some with the same beginning.
std::vector<Request> mixed_requests(size_t count) {
  Random random(5);
  std::vector<TokenId> stem = {1};
  while (stem.size() < 50) stem.push_back(static_cast<TokenId>(3 + random.below(250)));
  std::vector<Request> requests;
  for (size_t i = 0; i < count; ++i) {
    std::vector<TokenId> prompt = {1};
    if (i % 3 == 0) prompt = stem;
    const uint64_t more = random.below(i % 2 == 0 ? 70 : 12);
    for (uint64_t t = 0; t < more; ++t)
      prompt.push_back(static_cast<TokenId>(3 + random.below(250)));
    Request request = greedy_request(prompt, 5 + static_cast<int64_t>(random.below(40)));
    request.priority = static_cast<int64_t>(random.below(3));
    requests.push_back(request);
  }
  return requests;
}

struct Setting {
  const char* name;
  EngineConfig config;
  bool preempts = false;
};
void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

// A pool of so many blocks of the small model's float pages.
double gib_of_blocks(const Llama& model, int64_t blocks) {
  const PageStore store(model.config, 1, at::kFloat, at::kCPU);
  return (static_cast<double>(blocks) + 0.5) * static_cast<double>(store.block_bytes()) / (1 << 30);
}

class EngineSettings : public EngineTest, public ::testing::WithParamInterface<Setting> {};

TEST_P(EngineSettings, AnswersTogetherAreTheAnswersAlone) {
  EngineConfig config = GetParam().config;
  if (GetParam().preempts) config.kv_cache_gib = gib_of_blocks(*model_, 16);
  Engine engine(*model_, tokenizer_, config);
  std::vector<Request> requests = mixed_requests(24);
  std::vector<Answers> answers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    engine.submit(requests[i], answers[i].listener());
    if (i % 4 == 0) engine.step();  // some come while others run
  }
  finish_all(engine);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(answers[i].ended) << i;
    EXPECT_EQ(answers[i].ids(), alone(requests[i])) << i;
    EXPECT_EQ(answers[i].text[0], answers[i].result.completions[0].text);
    EXPECT_EQ(answers[i].tokens[0], answers[i].ids());
  }
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.finished, 24);
  EXPECT_EQ(stats.used_blocks, 0);
  EXPECT_GE(stats.preemptions, GetParam().preempts ? 10 : 0);
  EXPECT_EQ(stats.cached_prompt_tokens > 0, config.prefix_cache);
}

EngineConfig setting(int64_t running, int64_t step_tokens, bool prefix_cache) {
  EngineConfig config;
  config.max_running = running;
  config.max_step_tokens = step_tokens;
  config.prefix_cache = prefix_cache;
  return config;
}
INSTANTIATE_TEST_SUITE_P(Settings, EngineSettings,
                         ::testing::Values(Setting{"defaults", setting(32, 512, true)},
                                           Setting{"no prefix cache", setting(32, 512, false)},
                                           Setting{"small steps", setting(8, 24, true)},
                                           Setting{"one at a time", setting(1, 64, true)},
                                           Setting{"small pool", setting(16, 40, true), true},
                                           Setting{"small pool, no prefix cache",
                                                   setting(16, 512, false), true}));

TEST_F(EngineTest, PrefixCacheSavesTheSharedBeginning) {
  std::vector<TokenId> prompt = {1};
  while (prompt.size() < 100) prompt.push_back(static_cast<TokenId>(3 + prompt.size()));
  Engine engine(*model_, tokenizer_);
  Answers first, second;
  engine.submit(greedy_request(prompt, 4), first.listener());
  finish_all(engine);
  prompt.back() = 200;
  engine.submit(greedy_request(prompt, 4), second.listener());
  finish_all(engine);
  EXPECT_EQ(first.result.cached_tokens, 0);
  EXPECT_EQ(second.result.cached_tokens, 96);
  EXPECT_EQ(engine.stats().prompt_tokens, 104);
  EXPECT_EQ(second.ids(), alone(greedy_request(prompt, 4)));
}

TEST_F(EngineTest, SeveralAnswersShareThePromptAndDrawApart) {
  Request request = greedy_request({1, 40, 41, 42, 43}, 20);
  request.sampling.temperature = 1.5;
  request.sampling.seed = 7;
  request.n = 4;
  Engine engine(*model_, tokenizer_);
  Answers answers;
  engine.submit(request, answers.listener());
  engine.step();
  EXPECT_EQ(engine.stats().running, 4);
  EXPECT_EQ(engine.stats().prompt_tokens, 5);
  finish_all(engine);
  ASSERT_EQ(answers.result.completions.size(), 4u);
  std::set<std::vector<TokenId>> different;
  for (const Completion& completion : answers.result.completions) different.insert(completion.ids);
  EXPECT_EQ(different.size(), 4u);
  // The first is what a request for one gives, and all are what they are in a crowded small pool.
  EXPECT_EQ(answers.ids(), alone(request));
  EngineConfig small = setting(8, 40, true);
  small.kv_cache_gib = gib_of_blocks(*model_, 5);
  Engine crowded(*model_, tokenizer_, small);
  Answers again;
  crowded.submit(request, again.listener());
  finish_all(crowded);
  ASSERT_EQ(again.result.completions.size(), 4u);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(again.result.completions[i].ids, answers.result.completions[i].ids) << i;
  EXPECT_GT(crowded.stats().preemptions, 0);
}

TEST_F(EngineTest, BestOfKeepsTheLikeliest) {
  Request request = greedy_request({1, 40, 41}, 12);
  request.sampling.temperature = 1.3;
  request.sampling.ignore_eos = true;
  request.n = 6;
  request.logprobs = 0;
  Engine engine(*model_, tokenizer_);
  Answers all, best;
  engine.submit(request, all.listener());
  request.n = 2;
  request.best_of = 6;
  engine.submit(request, best.listener());
  finish_all(engine);
  std::vector<Completion> sorted = all.result.completions;
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.mean_logprob > b.mean_logprob; });
  ASSERT_EQ(best.result.completions.size(), 2u);
  EXPECT_EQ(best.result.completions[0].ids, sorted[0].ids);
  EXPECT_EQ(best.result.completions[1].ids, sorted[1].ids);
  EXPECT_EQ(best.text[1], sorted[1].text);
}

TEST_F(EngineTest, HigherPrioritiesInterruptLowerOnes) {
  EngineConfig config = setting(1, 64, true);
  Engine engine(*model_, tokenizer_, config);
  std::vector<std::string> order;
  std::vector<Answers> answers(3);
  const auto submit = [&](size_t i, int64_t priority, const char* name) {
    Request request = greedy_request({1, static_cast<TokenId>(40 + i)}, 10);
    request.priority = priority;
    engine.submit(request, [&order, name, inner = answers[i].listener()](const RequestEvent& e) {
      inner(e);
      if (e.result != nullptr) order.emplace_back(name);
    });
  };
  submit(0, 0, "first");
  engine.step();
  submit(1, 0, "second");
  submit(2, 5, "urgent");
  finish_all(engine);
  EXPECT_EQ(order, (std::vector<std::string>{"urgent", "first", "second"}));
  EXPECT_EQ(engine.stats().preemptions, 1);
  EXPECT_EQ(answers[0].ids(), alone(greedy_request({1, 40}, 10)));
}

TEST_F(EngineTest, LongPromptsDoNotHoldUpAnswers) {
  Engine engine(*model_, tokenizer_, setting(4, 20, false));
  Answers talking, reading;
  engine.submit(greedy_request({1, 40}, 30), talking.listener());
  engine.step();
  std::vector<TokenId> prompt(150, 50);
  engine.submit(greedy_request(prompt, 2), reading.listener());
  const size_t before = talking.tokens[0].size();
  for (int i = 0; i < 5; ++i) engine.step();
  EXPECT_EQ(talking.tokens[0].size(), before + 5);
  EXPECT_EQ(engine.stats().prompt_tokens, 2 + 5 * 19);
  finish_all(engine);
  EXPECT_TRUE(reading.ended);
}

// A prompt of many steps does not make the short one behind it wait for all of them.
TEST_F(EngineTest, LongPromptsLeaveRoomForShortOnes) {
  EngineConfig config;
  config.max_running = 4;
  config.max_step_tokens = 40;
  Engine engine(*model_, tokenizer_, config);
  const Request long_one = greedy_request(std::vector<TokenId>(240, 40), 2);
  const Request short_one = greedy_request({1, 40, 41, 42}, 2);
  Answers first, second, alone;
  engine.submit(long_one, first.listener());
  engine.step();  // it is under way
  engine.submit(short_one, second.listener());
  for (int i = 0; i < 3; ++i) engine.step();
  EXPECT_TRUE(second.ended);
  EXPECT_FALSE(first.ended);
  finish_all(engine);
  EXPECT_TRUE(first.ended);
  Engine own(*model_, tokenizer_, config);
  own.submit(long_one, alone.listener());
  int64_t steps = 0;
  while (own.step()) ++steps;
  EXPECT_LE(steps, 8);  // 240 / 40 for the prompt: alone it has all of each step
  EXPECT_EQ(first.ids(), alone.ids());
}

TEST_F(EngineTest, LogprobsAreTheModels) {
  Request request = greedy_request({1, 40, 41}, 5);
  request.logprobs = 3;
  Engine engine(*model_, tokenizer_);
  Answers answers;
  engine.submit(request, answers.listener());
  finish_all(engine);
  const Completion& completion = answers.result.completions[0];
  ASSERT_EQ(completion.tokens.size(), completion.ids.size());
  std::vector<int64_t> text = {1, 40, 41};
  for (const SampledToken& token : completion.tokens) {
    PackedSequences context(static_cast<int64_t>(text.size()), at::kCPU);
    const at::Tensor logits = model_->logits(model_->forward(at::tensor(text), context));
    const at::Tensor expected = at::log_softmax(logits[logits.size(0) - 1], -1);
    ASSERT_EQ(token.top.size(), 3u);
    EXPECT_EQ(token.top[0].id, token.id);  // greedy
    EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
    for (const TokenLogprob& top : token.top)
      EXPECT_NEAR(top.logprob, expected[top.id].item<double>(), 1e-4);
    EXPECT_NEAR(token.logprob, expected[token.id].item<double>(), 1e-4);
    text.push_back(token.id);
  }
}

TEST_F(EngineTest, OtherThreadsSubmitWhileItRuns) {
  Engine engine(*model_, tokenizer_, setting(4, 64, true));
  const std::vector<Request> requests = mixed_requests(12);
  std::vector<Answers> answers(requests.size());
  std::vector<std::promise<void>> ended(requests.size());
  {
    const EngineThread thread(engine);
    std::vector<std::thread> callers;
    for (size_t caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&, caller] {
        for (size_t i = caller; i < requests.size(); i += 3) {
          engine.submit(requests[i],
                        [&, i, inner = answers[i].listener()](const RequestEvent& event) {
                          inner(event);
                          if (event.result != nullptr) ended[i].set_value();
                        });
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    for (auto& promise : ended) promise.get_future().wait();
  }
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(answers[i].ids(), alone(requests[i])) << i;
}

TEST(EngineGolden, Stories260kManyTimesAtOnce) {
  const fs::path data = testing::shared_data();
  if (data.empty()) GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
  LoadRequest load;
  load.model = data / "weights/stories260K_hf";
  load.tokenizer = data / "tokenizers/tok512_from_bin.model";
  const LoadedModel loaded = load_for_inference(load);
  Engine engine(*loaded.model, *loaded.tokenizer, setting(8, 64, true));
  std::vector<Answers> answers(8);
  for (size_t i = 0; i < answers.size(); ++i) {
    std::vector<TokenId> prompt = {loaded.tokenizer->bos_id()};
    if (i % 2 == 1) prompt = loaded.tokenizer->encode("Once upon a time, there was a dog");
    engine.submit(greedy_request(prompt, 200), answers[i].listener());
    engine.step();
  }
  finish_all(engine);
  const std::string golden = read_file(data / "weights/stories260K_golden.txt");
  for (size_t i = 0; i < answers.size(); ++i)
    EXPECT_EQ(answers[i].text[0], i % 2 == 0 ? golden : answers[1].text[0]) << i;
}

}  // namespace
}  // namespace llama2zh
