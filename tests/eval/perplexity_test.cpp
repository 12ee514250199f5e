#include "llama2zh/eval/perplexity.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {
namespace {

constexpr const char* kText = "人工智能 is AI. 人人工\n";

PerplexityRule windows(int64_t window, int64_t stride) {
  return {PerplexityProtocol::kWindows, window, stride};
}

class Perplexity : public ::testing::Test {
 protected:
  // One forward pass for each predicted token, its context taken from the definition.
  double naive_nll(const std::vector<TokenId>& ids, int64_t window, int64_t stride) {
    const at::NoGradGuard no_grad;
    std::vector<TokenId> stream = {1};
    stream.insert(stream.end(), ids.begin(), ids.end());
    double nll = 0;
    for (int64_t i = 1; i < static_cast<int64_t>(stream.size()); ++i) {
      std::vector<TokenId> context;
      if (stride == window) {
        const int64_t begin = (i - 1) / window * window + 1;
        context = {1};
        context.insert(context.end(), stream.begin() + begin, stream.begin() + i);
      } else {
        // The first window whose end lies beyond i scores it.
        int64_t begin = 0;
        while (begin + window <= i) begin += stride;
        context.assign(stream.begin() + begin, stream.begin() + i);
      }
      at::Tensor input = at::empty({static_cast<int64_t>(context.size())}, at::kLong);
      std::copy(context.begin(), context.end(), input.data_ptr<int64_t>());
      PackedSequences sequence(input.size(0), at::kCPU);
      const at::Tensor hidden = model_->forward(input, sequence);
      const at::Tensor logits = model_->logits(hidden.narrow(0, input.size(0) - 1, 1));
      nll -= at::log_softmax(logits, 1)[0][stream[static_cast<size_t>(i)]].item<double>();
    }
    return nll;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"人", "工", "人工"});
  std::unique_ptr<Llama> model_ =
      random_model(testing::small_config(tokenizer_.vocab_size()), 8, at::kFloat, at::kCPU);
};

TEST_F(Perplexity, EqualsTheNaiveLoop) {
  const std::vector<TokenId> ids = tokenizer_.encode(kText);
  ASSERT_GT(ids.size(), 16u);
  for (const auto& [window, stride] : std::vector<std::pair<int64_t, int64_t>>{
           {64, 64}, {8, 8}, {2, 2}, {8, 4}, {8, 1}, {8, 7}, {2, 1}, {64, 10}}) {
    const PerplexityResult got =
        measure_perplexity(*model_, tokenizer_, kText, windows(window, stride));
    EXPECT_EQ(got.tokens, static_cast<int64_t>(ids.size()));
    EXPECT_NEAR(got.nll, naive_nll(ids, window, stride), 1e-3) << window << "/" << stride;
  }
}

TEST_F(Perplexity, ProtocolsScoreTheirOwnTokens) {
  const std::vector<TokenId> ids = tokenizer_.encode(kText);
  const auto all = static_cast<int64_t>(ids.size());
  const auto measured = [&](PerplexityProtocol protocol, int64_t window, int64_t stride) {
    return measure_perplexity(*model_, tokenizer_, kText, {protocol, window, stride});
  };
  // With overlap the guide's windows are ours; without, each loses its first token, for the text's is
  // BOS.
  EXPECT_EQ(measured(PerplexityProtocol::kHuggingFace, 8, 4).nll,
            measured(PerplexityProtocol::kWindows, 8, 4).nll);
  const PerplexityResult apart = measured(PerplexityProtocol::kHuggingFace, 8, 8);
  EXPECT_EQ(apart.tokens, all + 1 - (all + 8) / 8);
  EXPECT_EQ(apart.text_tokens, all);
  // llama.cpp's windows of 8: BOS for their first token, and 5, 6, 7 are scored.
  const PerplexityResult chunks = measured(PerplexityProtocol::kLlamaCpp, 8, 8);
  EXPECT_EQ(chunks.tokens, (all + 1) / 8 * 3);
  double nll = 0;
  std::vector<TokenId> stream = {1};
  stream.insert(stream.end(), ids.begin(), ids.end());
  for (size_t begin = 0; begin + 8 <= stream.size(); begin += 8) {
    const std::vector<TokenId> tail(stream.begin() + static_cast<std::ptrdiff_t>(begin) + 1,
                                    stream.begin() + static_cast<std::ptrdiff_t>(begin) + 8);
    const std::vector<TokenId> head(tail.begin(), tail.begin() + 4);
    nll += naive_nll(tail, 64, 64) - naive_nll(head, 64, 64);
  }
  EXPECT_NEAR(chunks.nll, nll, 1e-3);
  EXPECT_THROW(measured(PerplexityProtocol::kLlamaCpp, 8, 4), Error);
}

TEST_F(Perplexity, StandardErrorIsThatOfTheMean) {
  PerplexityResult result;
  result.tokens = 4;
  result.nll = 10;          // 1, 2, 3, 4
  result.nll_squares = 30;  // variance 1.25 about the mean
  EXPECT_DOUBLE_EQ(result.standard_error(), std::sqrt(1.25 / 3));
  const PerplexityResult got = measure_perplexity(*model_, tokenizer_, kText, windows(64, 64));
  double squares = 0;
  const std::vector<TokenId> ids = tokenizer_.encode(kText);
  double before = 0;
  for (size_t i = 1; i <= ids.size(); ++i) {
    const double sum =
        naive_nll({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(i)}, 64, 64);
    squares += (sum - before) * (sum - before);
    before = sum;
  }
  EXPECT_NEAR(got.nll_squares, squares, 1e-2);
}

TEST_F(Perplexity, CountsCharactersAndBytes) {
  const PerplexityResult got = measure_perplexity(*model_, tokenizer_, "人a\n", windows(8, 8));
  EXPECT_EQ(got.characters, 3);
  EXPECT_EQ(got.bytes, 5);
  EXPECT_DOUBLE_EQ(got.bits_per_character() * 3, got.bits_per_byte() * 5);
  EXPECT_DOUBLE_EQ(got.bits_per_byte() * 5 * std::log(2.0), got.nll);
  EXPECT_DOUBLE_EQ(std::log(got.perplexity()) * static_cast<double>(got.tokens), got.nll);
  EXPECT_EQ(measure_perplexity(*model_, tokenizer_, "", windows(8, 8)).tokens, 0);
}

// EOS and a template's tokens are predicted too, but are no characters of the text.
TEST_F(Perplexity, SpecialTokensAreNoCharacters) {
  const std::string text = "人工智能";
  std::vector<TokenId> ids = tokenizer_.encode(text);
  const auto measured = [&](const std::vector<TokenId>& tokens) {
    PerplexityResult result =
        measure_perplexity(*model_, tokenizer_, std::span<const TokenId>(tokens), windows(64, 64));
    result.characters = 4;
    result.bytes = static_cast<int64_t>(text.size());
    return result;
  };
  const PerplexityResult plain = measured(ids);
  ids.push_back(tokenizer_.eos_id());
  const PerplexityResult ended = measured(ids);
  EXPECT_EQ(ended.tokens, plain.tokens + 1);
  EXPECT_EQ(ended.special_tokens, 1);
  EXPECT_GT(ended.special_nll, 0);
  EXPECT_NEAR(ended.nll, plain.nll + ended.special_nll, 1e-4);
  EXPECT_NEAR(ended.bits_per_character(), plain.bits_per_character(), 1e-4);
  EXPECT_NEAR(ended.bits_per_byte_error(), plain.bits_per_byte_error(), 1e-4);
  EXPECT_DOUBLE_EQ(plain.bits_per_byte_error() * 3, plain.bits_per_character_error());
  EXPECT_DOUBLE_EQ(plain.bits_per_character_error() * 4 * std::log(2.0),
                   plain.standard_error() * static_cast<double>(plain.text_tokens));
}

TEST_F(Perplexity, ReportsEachTokenOnce) {
  for (const int64_t stride : {3, 8}) {
    int64_t reported = 0;
    const PerplexityResult got = measure_perplexity(*model_, tokenizer_, kText, windows(8, stride),
                                                    [&](int64_t tokens) { reported += tokens; });
    EXPECT_EQ(reported, got.tokens);
  }
}

TEST_F(Perplexity, WindowsBeyondTheContextAreRefused) {
  EXPECT_THROW(measure_perplexity(*model_, tokenizer_, kText, windows(65, 65)), Error);
  EXPECT_THROW(measure_perplexity(*model_, tokenizer_, kText, windows(8, 9)), Error);
  EXPECT_THROW(measure_perplexity(*model_, tokenizer_, kText, windows(8, 0)), Error);
}

TEST(PerplexityReference, EqualsTransformersOnStories260k) {
  const fs::path data = testing::shared_data();
  if (data.empty()) GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
  LoadRequest request;
  request.model = data / "weights/stories260K_hf";
  request.tokenizer = data / "tokenizers/tok512_from_bin.model";
  const LoadedModel loaded = load_for_inference(request);
  const std::string golden = read_file(data / "weights/stories260K_golden.txt");
  const json reference = testing::sampling_reference();
  for (const json& test : reference["perplexity"]) {
    const std::string text = test.contains("content") ? test["content"].get<std::string>() : golden;
    const PerplexityResult got =
        measure_perplexity(*loaded.model, *loaded.tokenizer, text,
                           windows(test["window"].get<int64_t>(), test["stride"].get<int64_t>()));
    EXPECT_EQ(got.tokens, test["tokens"].get<int64_t>());
    const double want = test["nll"].get<double>();
    EXPECT_NEAR(got.nll, want, 1e-4 * want) << test.dump();
  }
}

}  // namespace
}  // namespace llama2zh
