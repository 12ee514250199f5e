#include "llama2zh/engine/generator.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

using testing::byte_token;
using testing::kFirstPiece;

SamplingConfig greedy(int64_t max_new_tokens) {
  SamplingConfig config;
  config.temperature = 0;
  config.max_new_tokens = max_new_tokens;
  return config;
}

const std::vector<TokenId> kBos = {1};

class GeneratorTest : public ::testing::Test {
 protected:
  int64_t vocabulary() const { return tokenizer_.vocab_size(); }
  // The model answers with these tokens.
  std::unique_ptr<Llama> speaking(const std::vector<TokenId>& tokens, int64_t context = 64) {
    return testing::chain_model(vocabulary(), tokens, context);
  }
  std::unique_ptr<Llama> random(int64_t context = 64, at::ScalarType type = at::kFloat) {
    return random_model(testing::small_config(vocabulary(), context), 11, type, at::kCPU);
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ =
      testing::tiny_tokenizer(folder_.path(), {"ab", "cS", "TO", "Px", "Q", "人", "工", "R"});
  std::vector<TokenId> abc_ = {260, 261, 262, 263, 264};  // "abcSTOPxQ"
};

TEST_F(GeneratorTest, EndsAtEos) {
  const auto model = speaking(abc_);
  const GenerationResult result = Generator(*model, tokenizer_).generate(kBos, greedy(20));
  EXPECT_EQ(result.text, "abcSTOPxQ");
  EXPECT_EQ(result.ids, abc_);
  EXPECT_EQ(result.finish_reason, "stop");
  EXPECT_EQ(result.prompt_tokens, 1);
}

TEST_F(GeneratorTest, EndsAtLength) {
  const auto model = speaking(abc_);
  const GenerationResult result = Generator(*model, tokenizer_).generate(kBos, greedy(3));
  EXPECT_EQ(result.text, "abcSTO");
  EXPECT_EQ(result.finish_reason, "length");
}

TEST_F(GeneratorTest, LengthIsCutToTheContext) {
  const auto model = speaking(abc_, 4);
  const GenerationResult result = Generator(*model, tokenizer_).generate(kBos, greedy(100));
  EXPECT_EQ(result.ids.size(), 3u);
  EXPECT_EQ(result.finish_reason, "length");
}

TEST_F(GeneratorTest, StopTextAcrossTokensIsNotEmitted) {
  const auto model = speaking(abc_);
  SamplingConfig config = greedy(20);
  config.stop = {"STOP"};
  std::string streamed;
  const GenerationResult result =
      Generator(*model, tokenizer_).generate(kBos, config, {}, [&](std::string_view text) {
        streamed += text;
        return true;
      });
  EXPECT_EQ(result.text, "abc");
  EXPECT_EQ(streamed, "abc");
  EXPECT_EQ(result.finish_reason, "stop");
  EXPECT_EQ(result.ids, (std::vector<TokenId>{260, 261, 262, 263}));
  // The same from the caller's own list, as a template's marks come.
  EXPECT_EQ(Generator(*model, tokenizer_).generate(kBos, greedy(20), {"STOP"}).text, "abc");
}

TEST_F(GeneratorTest, StopIdsAndIgnoredEos) {
  const auto model = testing::chain_model(vocabulary(), {260, 2, 261, 262}, 64, /*last=*/264);
  SamplingConfig config = greedy(4);
  EXPECT_EQ(Generator(*model, tokenizer_).generate(kBos, config).text, "ab");
  config.ignore_eos = true;
  EXPECT_EQ(Generator(*model, tokenizer_).generate(kBos, config).text, "abcSTO");
  config.stop_ids = {262};
  const GenerationResult result = Generator(*model, tokenizer_).generate(kBos, config);
  EXPECT_EQ(result.text, "abcS");
  EXPECT_EQ(result.finish_reason, "stop");
  config.stop_ids = {100000};
  EXPECT_THROW(Generator(*model, tokenizer_).generate(kBos, config), Error);
}

TEST_F(GeneratorTest, EosOfTheModelConfigCounts) {
  const auto model = speaking(abc_);
  model->config.eos_token_id = {262};
  EXPECT_EQ(Generator(*model, tokenizer_).generate(kBos, greedy(20)).text, "abcS");
}

TEST_F(GeneratorTest, CharactersSplitOverTokensStreamWhole) {
  // 智 and 能 as bytes; E8 can't be used twice in a chain, so 能 (E8 83 BD) comes after 智 (E6 99
  // BA).
  std::vector<TokenId> tokens = {265};
  for (const uint8_t byte : {0xE6, 0x99, 0xBA, 0xE8, 0x83, 0xBD})
    tokens.push_back(byte_token(byte));
  tokens.push_back(266);
  const auto model = speaking(tokens);
  std::vector<std::string> pieces;
  const GenerationResult result =
      Generator(*model, tokenizer_).generate(kBos, greedy(20), {}, [&](std::string_view text) {
        if (!text.empty()) pieces.emplace_back(text);
        return true;
      });
  EXPECT_EQ(pieces, (std::vector<std::string>{"人", "智", "能", "工"}));
  EXPECT_EQ(result.text, "人智能工");
  EXPECT_EQ(result.text, tokenizer_.decode(result.ids));
}

TEST_F(GeneratorTest, CutCharacterIsReplacedAtTheEnd) {
  const auto model = speaking({265, byte_token(0xE6), byte_token(0x99)});
  EXPECT_EQ(Generator(*model, tokenizer_).generate(kBos, greedy(20)).text, "人\uFFFD\uFFFD");
}

TEST_F(GeneratorTest, CallbackCancels) {
  const auto model = speaking(abc_);
  std::string streamed;
  const GenerationResult result =
      Generator(*model, tokenizer_).generate(kBos, greedy(20), {}, [&](std::string_view text) {
        streamed += text;
        return streamed.size() < 4;
      });
  EXPECT_EQ(result.finish_reason, "cancelled");
  EXPECT_EQ(result.text, "abcS");
  EXPECT_EQ(streamed, result.text);
  // Before the first token, too: the prompt alone can take long.
  const GenerationResult none =
      Generator(*model, tokenizer_).generate(kBos, greedy(20), {}, [](auto) { return false; });
  EXPECT_EQ(none.finish_reason, "cancelled");
  EXPECT_TRUE(none.ids.empty());
}

TEST_F(GeneratorTest, BadPromptsAreRefused) {
  const auto model = speaking(abc_, 8);
  Generator generator(*model, tokenizer_);
  const auto message = [&](const std::vector<TokenId>& prompt) -> std::string {
    try {
      generator.generate(prompt, greedy(2));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(message({}).find("no tokens"), std::string::npos);
  EXPECT_NE(message(std::vector<TokenId>(8, 260)).find("8 tokens"), std::string::npos);
  EXPECT_NE(message({1, -1}).find("token 1 is -1"), std::string::npos);
  EXPECT_NE(message({1, 5000}).find("5000"), std::string::npos);
  EXPECT_EQ(generator.generate(std::vector<TokenId>(7, 260), greedy(9)).ids.size(), 1u);
}

TEST_F(GeneratorTest, CacheReuseEqualsAFreshStart) {
  const auto model = random(128);
  Generator reused(*model, tokenizer_);
  const SamplingConfig config = greedy(12);
  std::vector<TokenId> history = {1, 40, 41, 42, 43};
  // Each prompt begins with what the cache holds, as in a chat; then one that leaves it early, and
  // the same once more.
  for (int turn = 0; turn < 4; ++turn) {
    const GenerationResult got = reused.generate(history, config);
    EXPECT_EQ(got.ids, Generator(*model, tokenizer_).generate(history, config).ids);
    history.insert(history.end(), got.ids.begin(), got.ids.end());
    history.push_back(50 + turn);
  }
  const std::vector<TokenId> other = {1, 40, 41, 99};
  const auto expected = Generator(*model, tokenizer_).generate(other, config).ids;
  EXPECT_EQ(reused.generate(other, config).ids, expected);
  EXPECT_EQ(reused.generate(other, config).ids, expected);
}

TEST_F(GeneratorTest, FailureBetweenCallsDoesNotSpoilTheCache) {
  const auto model = random();
  Generator generator(*model, tokenizer_);
  const std::vector<TokenId> prompt = {1, 40, 41, 42, 43};
  generator.generate({{1, 40, 41, 60}}, greedy(5), {}, [](auto) { return false; });
  EXPECT_EQ(generator.generate(prompt, greedy(9)).ids,
            Generator(*model, tokenizer_).generate(prompt, greedy(9)).ids);
}

TEST_F(GeneratorTest, PromptsLongerThanAChunk) {
  const auto model = random(1000);
  std::vector<TokenId> prompt = {1};
  while (prompt.size() < 2 * Generator::kPrefillChunk + 5)
    prompt.push_back(static_cast<TokenId>(3 + prompt.size() * 7 % 250));
  // Token by token through the public cache, as the reference.
  Generator stepwise(*model, tokenizer_);
  for (const size_t length : {size_t{1}, size_t{100}, size_t{300}, size_t{400}})
    stepwise.generate(std::span(prompt).first(length), greedy(1));
  EXPECT_EQ(stepwise.generate(prompt, greedy(16)).ids,
            Generator(*model, tokenizer_).generate(prompt, greedy(16)).ids);
}

TEST_F(GeneratorTest, SeedsDecideTheAnswer) {
  const auto model = random();
  SamplingConfig config;
  config.temperature = 1.5;
  config.max_new_tokens = 20;
  config.ignore_eos = true;
  config.seed = 3;
  const auto first = Generator(*model, tokenizer_).generate(kBos, config).ids;
  EXPECT_EQ(Generator(*model, tokenizer_).generate(kBos, config).ids, first);
  config.seed = 4;
  EXPECT_NE(Generator(*model, tokenizer_).generate(kBos, config).ids, first);
}

TEST_F(GeneratorTest, RepetitionPenaltySeesPromptAndAnswer) {
  const auto model = random();
  SamplingConfig config = greedy(30);
  config.ignore_eos = true;
  config.repetition_penalty = 1e6;  // a token said once is not said again while others are positive
  const auto ids = Generator(*model, tokenizer_).generate(kBos, config).ids;
  EXPECT_EQ(std::set<TokenId>(ids.begin(), ids.end()).size(), ids.size());
}

TEST_F(GeneratorTest, RunsInBfloat16) {
  const auto model = random(64, at::kBFloat16);
  const GenerationResult result = Generator(*model, tokenizer_).generate(kBos, greedy(10));
  EXPECT_FALSE(result.ids.empty());
}

}  // namespace
}  // namespace llama2zh
