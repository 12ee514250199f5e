#include "llama2zh/engine/sampling.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

const float kMinusInfinity = -std::numeric_limits<float>::infinity();

SamplingConfig config_of(const json& values) {
  SamplingConfig config;
  config.temperature = 1;
  const OptionTable table = bind_options(config);
  for (const auto& [key, value] : values.items()) find_option(table, key)->set(value, "test");
  return config;
}

// Biases by the config; what depends on a tokenizer as ids of the reference.
TokenRules rules_of(const json& test, const Tokenizer& tokenizer) {
  TokenRules rules =
      token_rules(config_of(test["config"]), {}, testing::small_config(64), tokenizer);
  const json& given = test.value("rules", json::object());
  const auto ends = given.value("ends", std::vector<TokenId>());
  rules.ends = {ends.begin(), ends.end()};
  rules.bad_words = given.value("bad_words", std::vector<std::vector<TokenId>>());
  return rules;
}

TEST(Sampling, ProcessorsEqualTransformers) {
  const json reference = testing::sampling_reference();
  const testing::TempFolder folder;
  const Tokenizer tokenizer = testing::tiny_tokenizer(folder.path(), {});
  ASSERT_GE(reference["sampling"].size(), 25u);
  for (const json& test : reference["sampling"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    at::Tensor logits = at::tensor(test["logits"].get<std::vector<float>>());
    process_logits(logits, config_of(test["config"]), test["prompt"].get<std::vector<TokenId>>(),
                   test["answer"].get<std::vector<TokenId>>(), rules_of(test, tokenizer));
    const float* got = logits.data_ptr<float>();
    for (size_t i = 0; i < test["processed"].size(); ++i) {
      const json& want = test["processed"][i];
      if (want.is_null())
        EXPECT_EQ(got[i], kMinusInfinity) << "token " << i;
      else
        EXPECT_NEAR(got[i], want.get<float>(), 2e-6 * (1 + std::abs(want.get<float>()))) << i;
    }
  }
}

TEST(Sampling, GreedyTakesTheLowestIdOnTies) {
  SamplingConfig config;
  config.temperature = 0;
  Random random(1);
  EXPECT_EQ(sample(at::tensor(std::vector<float>{-3, 2, 5, 5, 1, 5}), config, random), 2);
  config.temperature = 1e-6;  // would overflow as a divisor
  EXPECT_EQ(sample(at::tensor(std::vector<float>{1, -2, 1.5}), config, random), 2);
}

TEST(Sampling, TopPDropsTheHigherOfEqualIds) {
  SamplingConfig config;
  config.temperature = 1;
  config.top_p = 0.5;
  at::Tensor logits = at::tensor(std::vector<float>{1, 1, 1, 1});
  process_logits(logits, config, {}, {});
  for (int64_t id = 0; id < 4; ++id)
    EXPECT_EQ(logits[id].item<float>(), id < 2 ? 1 : kMinusInfinity);
}

// Filters meet a row in which rules have left nothing.
TEST(Sampling, NothingLeftIsAnErrorUnderEveryFilter) {
  TokenRules rules;
  rules.bad_words = {{0}, {1}, {2}};
  const json filters = {{"top_k", 2}, {"top_p", 0.5}, {"min_p", 0.5}, {"typical_p", 0.5}};
  for (const auto& [filter, value] : filters.items()) {
    const SamplingConfig config = config_of({{filter, value}});
    at::Tensor logits = at::tensor(std::vector<float>{1, 2, 3});
    process_logits(logits, config, {}, {}, rules);
    Random random(1);
    EXPECT_THROW(sample(logits, config, random), Error) << filter;
  }
}

// Over more tokens than a block of sums, flat and with what was filtered between.
TEST(Sampling, DrawsReachEveryTokenThatIsLeft) {
  const SamplingConfig config = config_of(json::object());
  std::vector<float> values(1000, kMinusInfinity);
  for (const size_t id : {3, 255, 256, 700, 999}) values[id] = 2;
  const at::Tensor logits = at::tensor(values);
  Random random(3);
  std::map<TokenId, int> counts;
  for (int i = 0; i < 5000; ++i) ++counts[sample(logits, config, random)];
  ASSERT_EQ(counts.size(), 5U);
  for (const auto& [id, count] : counts) EXPECT_NEAR(count, 1000, 150) << id;
}

TEST(Sampling, DrawsFollowTheProbabilities) {
  SamplingConfig config;
  config.temperature = 1;
  const at::Tensor logits = at::tensor(
      std::vector<float>{std::log(0.5f), kMinusInfinity, std::log(0.3f), std::log(0.2f)});
  Random random(42);
  std::vector<int> counts(4);
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sample(logits, config, random))];
  EXPECT_EQ(counts[1], 0);
  EXPECT_NEAR(counts[0], 0.5 * kDraws, 500);  // 5 standard deviations
  EXPECT_NEAR(counts[2], 0.3 * kDraws, 500);
  EXPECT_NEAR(counts[3], 0.2 * kDraws, 500);
}

TEST(Sampling, SameSeedSameDraws) {
  SamplingConfig config;
  config.temperature = 1;
  const at::Tensor logits = at::tensor(std::vector<float>(50, 0.0f));
  Random first(7), second(7), other(8);
  std::vector<TokenId> a, b, c;
  for (int i = 0; i < 20; ++i) {
    a.push_back(sample(logits, config, first));
    b.push_back(sample(logits, config, second));
    c.push_back(sample(logits, config, other));
  }
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST(Sampling, BrokenLogitsAreRefused) {
  SamplingConfig config;
  config.top_k = 2;
  config.top_p = 0.5;
  Random random(1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  at::Tensor broken = at::tensor(std::vector<float>{1, nan, 2, nan});
  EXPECT_THROW(process_logits(broken, config, {}, {}), Error);
  EXPECT_THROW(sample(broken, config, random), Error);
  EXPECT_THROW(sample(at::tensor(std::vector<float>(3, kMinusInfinity)), config, random), Error);
  config.temperature = 0;
  EXPECT_THROW(sample(at::tensor(std::vector<float>{nan, 1}), config, random), Error);
}

// Not the weights' fault.
TEST(Sampling, RulesThatLeaveNothingAreNamed) {
  Random random(1);
  for (const double temperature : {0.0, 1.0}) {
    SamplingConfig config;
    config.temperature = temperature;
    TokenRules rules;
    rules.bad_words = {{0}, {1}};
    at::Tensor logits = at::zeros({2});
    process_logits(logits, config, {}, {}, rules);
    try {
      sample(logits, config, random);
      FAIL() << "it drew a token";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("every token is forbidden"), std::string::npos)
          << error.what();
    }
  }
}

TEST(Sampling, RulesKnowTheTokenizer) {
  const testing::TempFolder folder;
  const Tokenizer tokenizer = testing::tiny_tokenizer(folder.path(), {"ab", "Q"});
  SamplingConfig config;
  config.stop_ids = {7};
  config.bad_words = {"abQ"};
  config.logit_bias = {"5=-1.5"};
  const TokenRules rules = token_rules(config, {"</s>"}, testing::small_config(262), tokenizer);
  EXPECT_EQ(rules.ends, (std::unordered_set<TokenId>{2, 7}));
  // As a word of its own, "▁abQ", and inside a text.
  EXPECT_EQ(rules.bad_words, (std::vector<std::vector<TokenId>>{{259, 260, 261}, {260, 261}}));
  EXPECT_EQ(rules.bias, (std::vector<std::pair<TokenId, float>>{{5, -1.5f}}));
  config.bad_words = {" "};
  EXPECT_THROW(token_rules(config, {}, testing::small_config(262), tokenizer), Error);
  config.bad_words = {};
  config.logit_bias = {"5=x"};
  EXPECT_THROW(token_rules(config, {}, testing::small_config(262), tokenizer), Error);
}

TEST(Sampling, HistoryIdsBeyondTheHeadAreIgnored) {
  SamplingConfig config;
  config.temperature = 0;
  config.repetition_penalty = 2;
  config.presence_penalty = 1;
  at::Tensor logits = at::tensor(std::vector<float>{4, 4});
  const std::vector<TokenId> prompt = {99, 0}, answer = {1, 1, 77};
  process_logits(logits, config, prompt, answer);
  EXPECT_EQ(logits[0].item<float>(), 2);  // repetition only: presence looks at the answer
  EXPECT_EQ(logits[1].item<float>(), 1);
}

}  // namespace
}  // namespace llama2zh
