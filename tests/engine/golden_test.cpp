// stories260K against the published golden text of llama2.c: 200 greedy steps after BOS, byte for
// byte.
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "llama2zh/engine/generator.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {
namespace {

class Golden : public ::testing::TestWithParam<const char*> {};

TEST_P(Golden, Stories260kGreedyTextByteForByte) {
  const fs::path data = testing::shared_data();
  if (data.empty()) GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
  LoadRequest request;
  request.model = data / "weights" / GetParam();
  request.tokenizer = data / "tokenizers/tok512_from_bin.model";
  const LoadedModel loaded = load_for_inference(request);
  SamplingConfig config;
  config.temperature = 0;
  config.max_new_tokens = 200;
  const std::vector<TokenId> prompt = {loaded.tokenizer->bos_id()};
  std::string streamed;
  Generator generator(*loaded.model, *loaded.tokenizer);
  const GenerationResult result = generator.generate(prompt, config, {}, [&](auto text) {
    streamed += text;
    return true;
  });
  EXPECT_EQ(result.text, read_file(data / "weights/stories260K_golden.txt"));
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(result.text, loaded.tokenizer->decode(result.ids));
  EXPECT_EQ(result.finish_reason, "length");
  auto expected = read_json_file(data / "weights/stories260K_greedy_ids.json")["greedy_ids"]
                      .get<std::vector<TokenId>>();
  expected.erase(expected.begin());  // BOS
  EXPECT_EQ(result.ids, expected);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Golden, ::testing::Values("stories260K_hf", "stories260K.bin"));

}  // namespace
}  // namespace llama2zh
