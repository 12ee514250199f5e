#include "llama2zh/engine/kv_cache.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

constexpr int64_t kVocabulary = 50;

at::Tensor some_ids(int64_t count) { return (at::arange(count, at::kLong) * 17 + 3) % kVocabulary; }

at::Tensor uncached_logits(const Llama& model, const at::Tensor& ids) {
  PackedSequences context(ids.size(0), at::kCPU);
  return model.logits(model.forward(ids, context));
}

at::Tensor cached_logits(const Llama& model, KvCache& cache, const at::Tensor& ids) {
  cache.begin(ids.size(0));
  return model.logits(model.forward(ids, cache));
}

TEST(KvCache, ChunksGiveTheLogitsOfOnePass) {
  const at::NoGradGuard no_grad;
  // 600 positions: the cache grows twice.
  const auto model = random_model(testing::small_config(kVocabulary, 600), 3, at::kFloat, at::kCPU);
  const at::Tensor ids = some_ids(600);
  const at::Tensor expected = uncached_logits(*model, ids);
  for (const int64_t chunk : {1, 7, 300, 600}) {
    KvCache cache(model->config, at::kFloat, at::kCPU);
    std::vector<at::Tensor> parts;
    for (int64_t begin = 0; begin < 600; begin += chunk)
      parts.push_back(
          cached_logits(*model, cache, ids.narrow(0, begin, std::min(chunk, 600 - begin))));
    EXPECT_EQ(cache.length(), 600);
    EXPECT_TRUE(at::allclose(at::cat(parts), expected, 1e-4, 1e-4)) << "chunks of " << chunk;
  }
}

TEST(KvCache, TruncateForgetsTheRest) {
  const at::NoGradGuard no_grad;
  const auto model = random_model(testing::small_config(kVocabulary), 5, at::kFloat, at::kCPU);
  const at::Tensor ids = some_ids(30);
  KvCache cache(model->config, at::kFloat, at::kCPU);
  cached_logits(*model, cache, ids.narrow(0, 0, 10));
  cached_logits(*model, cache, at::full({15}, 1, at::kLong));  // a branch that is given up
  cache.truncate(10);
  EXPECT_EQ(cache.length(), 10);
  const at::Tensor got = cached_logits(*model, cache, ids.narrow(0, 10, 20));
  EXPECT_TRUE(at::allclose(got, uncached_logits(*model, ids).narrow(0, 10, 20), 1e-4, 1e-4));
}

TEST(KvCache, FullContextIsUsedAndNotMore) {
  const at::NoGradGuard no_grad;
  const auto model = random_model(testing::small_config(kVocabulary, 16), 5, at::kFloat, at::kCPU);
  KvCache cache(model->config, at::kFloat, at::kCPU);
  cached_logits(*model, cache, some_ids(16));
  EXPECT_EQ(cache.length(), 16);
  try {
    cache.begin(1);
    FAIL() << "a 17th token was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(error.what()).find("context of 16"), std::string::npos) << error.what();
  }
}

TEST(KvCache, FailedPassLeavesTheLength) {
  const at::NoGradGuard no_grad;
  const auto model = random_model(testing::small_config(kVocabulary), 5, at::kFloat, at::kCPU);
  KvCache cache(model->config, at::kFloat, at::kCPU);
  cached_logits(*model, cache, some_ids(4));
  EXPECT_THROW(cached_logits(*model, cache, at::full({3}, kVocabulary, at::kLong)), Error);
  EXPECT_EQ(cache.length(), 4);
  const at::Tensor got = cached_logits(*model, cache, some_ids(9).narrow(0, 4, 5));
  EXPECT_TRUE(at::allclose(got, uncached_logits(*model, some_ids(9)).narrow(0, 4, 5), 1e-4, 1e-4));
}

}  // namespace
}  // namespace llama2zh
