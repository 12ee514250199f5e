// Guesses change how fast an answer comes, and nothing else.
#include "engine/speculation.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

std::vector<TokenId> looked_up(const std::vector<TokenId>& tokens, int64_t count) {
  return lookup_draft(tokens, count);
}

TEST(LookupDraft, FollowsTheLongestAndLastOccurrence) {
  EXPECT_EQ(looked_up({1, 5, 6, 7, 8, 5, 6, 7}, 3), (std::vector<TokenId>{8, 5, 6}));
  // "6 7" alone came later, but "5 6 7" counts before it.
  EXPECT_EQ(looked_up({5, 6, 7, 8, 9, 6, 7, 2, 5, 6, 7}, 1), (std::vector<TokenId>{8}));
  EXPECT_EQ(looked_up({7, 1, 7, 2, 7}, 4), (std::vector<TokenId>{2, 7}));
  EXPECT_TRUE(looked_up({1, 2, 3}, 4).empty());
  EXPECT_TRUE(looked_up({1}, 4).empty());
}

TEST(SampleWithDraft, TheDistributionIsTheModels) {
  const std::vector<float> p = {0.5f, 0.0f, 0.2f, 0.25f, 0.05f}, q = {0.1f, 0.3f, 0.2f, 0.0f, 0.4f};
  const auto logits = [](const std::vector<float>& values) {
    std::vector<float> out;
    for (const float value : values) out.push_back(std::log(value));
    return at::tensor(out);
  };
  SamplingConfig config;
  config.temperature = 1;
  Random random(3), guesses(4);
  std::vector<int> counts(5);
  constexpr int kDraws = 60000;
  int kept = 0;
  for (int i = 0; i < kDraws; ++i) {
    const TokenId guess = sample(logits(q), config, guesses);
    const TokenId token = sample_with_draft(logits(p), guess, logits(q), config, random);
    kept += token == guess;
    ++counts[static_cast<size_t>(token)];
  }
  for (size_t i = 0; i < 5; ++i) {
    const double deviation = std::sqrt(kDraws * p[i] * (1 - p[i]));
    EXPECT_NEAR(counts[i], p[i] * kDraws, 4.5 * deviation) << i;
  }
  EXPECT_NEAR(kept, 0.35 * kDraws, 600);  // the sum of min(p, q): no more can be kept
}

class Speculation : public ::testing::Test {
 protected:
  std::unique_ptr<Llama> make_model(uint64_t seed, int64_t layers = 3) {
    LlamaConfig config = testing::small_config(tokenizer_.vocab_size(), 256);
    config.num_hidden_layers = layers;
    return random_model(config, seed, at::kFloat, at::kCPU);
  }
  // The answers, with the engine's counts.
  std::vector<Answers> answer(const std::vector<Request>& requests, const std::string& how,
                              const Llama* draft = nullptr, EngineConfig config = {}) {
    config.speculate = how;
    Engine engine(*model_, tokenizer_, config, {.draft = draft});
    std::vector<Answers> answers(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      engine.submit(requests[i], answers[i].listener());
      if (i % 3 == 0) engine.step();
    }
    finish_all(engine);
    stats_ = engine.stats();
    EXPECT_EQ(stats_.used_blocks, 0);
    return answers;
  }
  // Of many kinds: penalties, stop texts, logprobs, several answers, long and short prompts.
  std::vector<Request> kinds_of_requests() const {
    std::vector<Request> requests;
    for (TokenId i = 0; i < 10; ++i) {
      std::vector<TokenId> prompt = {1};
      for (TokenId t = 0; t < i * 7; ++t) prompt.push_back(30 + t % 9 * (1 + i % 3));
      Request request = greedy_request(prompt, 40);
      request.sampling.ignore_eos = i % 2 == 0;
      if (i % 4 == 1) request.sampling.repetition_penalty = 1.1;
      if (i % 4 == 2) request.sampling.frequency_penalty = 0.5;
      if (i % 3 == 1) request.logprobs = 2;
      if (i % 5 == 3) request.n = 2;
      if (i == 7) request.sampling.bad_words = {"Q"};
      if (i == 8) request.sampling.min_tokens = 12;
      requests.push_back(request);
    }
    // Stop texts out of the answers themselves, which may begin inside a token.
    requests.push_back(requests[2]);
    requests.back().sampling.stop = {stop_text_};
    return requests;
  }
  void expect_same(const std::vector<Answers>& got, const std::vector<Answers>& expected) {
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_TRUE(got[i].ended && !got[i].result.error) << i;
      ASSERT_EQ(got[i].result.completions.size(), expected[i].result.completions.size());
      for (size_t k = 0; k < got[i].result.completions.size(); ++k) {
        const Completion& a = got[i].result.completions[k];
        const Completion& b = expected[i].result.completions[k];
        EXPECT_EQ(a.ids, b.ids) << i;
        EXPECT_EQ(a.text, b.text) << i;
        EXPECT_EQ(a.finish_reason, b.finish_reason) << i;
        ASSERT_EQ(a.tokens.size(), b.tokens.size());
        for (size_t t = 0; t < a.tokens.size(); ++t) {
          EXPECT_NEAR(a.tokens[t].logprob, b.tokens[t].logprob, 1e-3);
          EXPECT_EQ(a.tokens[t].top.size(), b.tokens[t].top.size());
        }
        EXPECT_EQ(got[i].text.at(static_cast<int64_t>(k)), a.text);
        EXPECT_EQ(got[i].tokens.at(static_cast<int64_t>(k)), a.ids);
      }
    }
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "Q"});
  std::unique_ptr<Llama> model_ = make_model(11);
  std::string stop_text_ = "no such text";
  EngineStats stats_;
};

TEST_F(Speculation, GreedyAnswersAreTheSame) {
  const std::string text = answer({kinds_of_requests()[2]}, "none")[0].text[0];
  ASSERT_GT(text.size(), 20u);
  stop_text_ = text.substr(text.size() / 2, 3);
  while (!stop_text_.empty() && (static_cast<uint8_t>(stop_text_[0]) & 0xC0) == 0x80)
    stop_text_.erase(0, 1);
  while (!stop_text_.empty() && !is_utf8(stop_text_)) stop_text_.pop_back();
  const std::vector<Request> requests = kinds_of_requests();
  const std::vector<Answers> expected = answer(requests, "none");
  EXPECT_EQ(stats_.drafted_tokens, 0);
  expect_same(answer(requests, "lookup"), expected);
  EXPECT_GT(stats_.accepted_tokens, 10);
  EXPECT_GT(stats_.drafted_tokens, stats_.accepted_tokens);
  const auto other = make_model(5, 1);
  expect_same(answer(requests, "draft", other.get()), expected);
  EXPECT_GT(stats_.drafted_tokens, 100);
  // The model itself guesses right, so that its keys and values must be in order throughout.
  expect_same(answer(requests, "draft", model_.get()), expected);
  EXPECT_GT(stats_.accepted_tokens, 9 * stats_.drafted_tokens / 10);
}

TEST_F(Speculation, AlsoWhereBlocksAndRowsAreFew) {
  EngineConfig config;
  config.max_running = 6;
  config.max_step_tokens = 40;
  const std::vector<Request> requests = kinds_of_requests();
  const std::vector<Answers> expected = answer(requests, "none");
  const PageStore store(model_->config, 1, at::kFloat, at::kCPU);
  for (const char* how : {"lookup", "draft"}) {
    const int64_t stores = std::string(how) == "draft" ? 2 : 1;
    config.kv_cache_gib = 14.5 * static_cast<double>(store.block_bytes() * stores) / (1 << 30);
    expect_same(answer(requests, how, model_.get(), config), expected);
    EXPECT_GT(stats_.preemptions, 0);
    EXPECT_GT(stats_.accepted_tokens, 0);
  }
}

TEST_F(Speculation, LookupLeavesDrawsAsTheyAre) {
  std::vector<Request> requests = kinds_of_requests();
  for (Request& request : requests) {
    request.sampling.temperature = 0.8;
    request.sampling.top_k = 3;
    request.sampling.seed = 21;
  }
  expect_same(answer(requests, "lookup"), answer(requests, "none"));
}

TEST_F(Speculation, DrawsOfADraftModelKeepTheDistribution) {
  std::vector<Request> requests;
  for (int64_t i = 0; i < 3000; ++i) {
    Request request = greedy_request({1, 40, 41}, 3);
    request.sampling.ignore_eos = true;
    request.sampling.temperature = 1;
    request.sampling.top_k = 3;
    request.sampling.seed = i;
    requests.push_back(request);
  }
  const auto counted = [](const std::vector<Answers>& answers) {
    std::map<std::vector<TokenId>, double> counts;
    for (const Answers& one : answers) ++counts[one.ids()];
    return counts;
  };
  EngineConfig config;
  config.max_running = 60;
  const auto expected = counted(answer(requests, "none", nullptr, config));
  const auto draft = make_model(11);
  draft->lm_head.weight.mul_(4);  // surer of the same
  auto got = counted(answer(requests, "draft", draft.get(), config));
  EXPECT_GT(stats_.drafted_tokens, stats_.accepted_tokens);
  EXPECT_GT(stats_.accepted_tokens, 0);
  double distance = 0, places = 0;  // chi-squared of two samples of one size
  for (const auto& [ids, count] : expected) {
    const double other = got[ids];
    distance += (count - other) * (count - other) / (count + other);
    ++places;
  }
  EXPECT_GT(places, 8);
  EXPECT_EQ(got.size(), expected.size());
  EXPECT_LT(distance, places + 4 * std::sqrt(2 * places));
}

TEST_F(Speculation, EachRequestCanDoWithoutIt) {
  std::vector<Request> requests = kinds_of_requests();
  for (Request& request : requests) request.speculative_tokens = 0;
  const std::vector<Answers> expected = answer(requests, "none");
  for (const char* how : {"lookup", "draft"}) {
    expect_same(answer(requests, how, model_.get()), expected);
    EXPECT_EQ(stats_.drafted_tokens, 0);
  }
  // Beside one that guesses, from the same prompt: blocks without the draft model's keys are not
  // taken for such with them.
  Request request = greedy_request(std::vector<TokenId>(40, 50), 30);
  request.sampling.ignore_eos = true;
  Request without = request;
  without.speculative_tokens = 0;
  const auto mixed = answer({without, request, without, request}, "draft", model_.get());
  for (const Answers& one : mixed) EXPECT_EQ(one.ids(), mixed[0].ids());
  EXPECT_EQ(mixed[0].result.drafted_tokens, 0);
  EXPECT_GT(mixed[1].result.accepted_tokens, 20);
  EXPECT_EQ(mixed[1].result.accepted_tokens, mixed[1].result.drafted_tokens);
}

TEST_F(Speculation, ADraftModelOfAnotherVocabularyIsRefused) {
  const auto save = [&](const char* name, const Tokenizer& tokenizer) {
    const fs::path folder = folder_.path() / name;
    fs::create_directories(folder);
    const auto model =
        random_model(testing::small_config(tokenizer.vocab_size()), 4, at::kFloat, at::kCPU);
    save_model(folder, *model, &tokenizer, {});
    return folder;
  };
  const auto other = [&](const char* name, const std::vector<std::string>& pieces) {
    fs::create_directories(folder_.path() / "tokenizers" / name);
    return testing::tiny_tokenizer(folder_.path() / "tokenizers" / name, pieces);
  };
  LoadRequest request;
  request.model = save("model", tokenizer_);
  const auto refusal = [&](const fs::path& draft) {
    request.draft_model = draft;
    try {
      load_for_inference(request);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal(request.model), "accepted");
  EXPECT_NE(refusal(save("larger", other("larger", {"ab", "Q", "R"}))).find("263"),
            std::string::npos);
  EXPECT_NE(refusal(save("as large", other("as large", {"ab", "R"}))).find("tokenizer"),
            std::string::npos);
  LlamaConfig config = testing::small_config(300);
  const auto wrong = random_model(config, 4, at::kFloat, at::kCPU);
  EXPECT_THROW(Engine(*model_, tokenizer_, {.speculate = "draft"}, {.draft = wrong.get()}), Error);
  EXPECT_THROW(Engine(*model_, tokenizer_, {.speculate = "draft"}), Error);
}

}  // namespace
}  // namespace llama2zh
