#include "llama2zh/engine/paged_batch.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <gtest/gtest.h>

#include "engine/engine_test_util.h"

namespace llama2zh {
namespace {

constexpr int64_t kVocabulary = 50;

at::Tensor some_ids(int64_t count, int64_t seed = 17) {
  return (at::arange(count, at::kLong) * seed + 3) % kVocabulary;
}

class PagedBatchTest : public ::testing::Test {
 protected:
  // Logits of the next rows of several sequences, computed in one pass.
  struct Part {
    BlockTable* table;
    at::Tensor ids;
  };
  std::vector<at::Tensor> run(const std::vector<Part>& parts) {
    PagedBatch batch(store_);
    std::vector<at::Tensor> ids, out;
    for (const Part& part : parts) make_room(*part.table, part.ids.size(0), pool_, store_);
    for (const Part& part : parts) {
      batch.add(*part.table, part.ids.size(0));
      ids.push_back(part.ids);
    }
    const at::Tensor logits = model_->logits(model_->forward(at::cat(ids), batch));
    int64_t row = 0;
    for (const Part& part : parts) {
      out.push_back(logits.narrow(0, row, part.ids.size(0)));
      row += part.ids.size(0);
      part.table->length += part.ids.size(0);
    }
    return out;
  }
  at::Tensor whole(const at::Tensor& ids) {
    PackedSequences context(ids.size(0), at::kCPU);
    return model_->logits(model_->forward(ids, context));
  }

  at::NoGradGuard no_grad_;
  std::unique_ptr<Llama> model_ =
      random_model(testing::small_config(kVocabulary, 600), 3, at::kFloat, at::kCPU);
  BlockPool pool_{200};
  PageStore store_{model_->config, 200, at::kFloat, at::kCPU};
};

TEST_F(PagedBatchTest, ChunksGiveTheLogitsOfOnePass) {
  const at::Tensor ids = some_ids(600), expected = whole(ids);
  for (const int64_t chunk : {1, 7, 300, 600}) {
    BlockTable table;
    std::vector<at::Tensor> parts;
    for (int64_t begin = 0; begin < 600; begin += chunk)
      parts.push_back(run({{&table, ids.narrow(0, begin, std::min(chunk, 600 - begin))}})[0]);
    EXPECT_EQ(table.length, 600);
    EXPECT_TRUE(at::allclose(at::cat(parts), expected, 1e-4, 1e-4)) << "chunks of " << chunk;
    release_blocks(table, pool_);
    EXPECT_EQ(pool_.used(), 0);
  }
}

TEST_F(PagedBatchTest, PromptsAndSingleTokensMix) {
  const at::Tensor a = some_ids(90), b = some_ids(40, 13), c = some_ids(21, 7);
  BlockTable table_a, table_b, table_c;
  const auto first = run({{&table_a, a.narrow(0, 0, 89)}, {&table_b, b.narrow(0, 0, 10)}});
  const auto second = run({{&table_a, a.narrow(0, 89, 1)},
                           {&table_b, b.narrow(0, 10, 30)},
                           {&table_c, c.narrow(0, 0, 21)}});
  EXPECT_TRUE(at::allclose(at::cat({first[0], second[0]}), whole(a), 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(at::cat({first[1], second[1]}), whole(b), 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(second[2], whole(c), 1e-4, 1e-4));
}

TEST_F(PagedBatchTest, SharedBlocksAreCopiedBeforeTheyAreWritten) {
  const at::Tensor stem = some_ids(20), left = some_ids(9, 11), right = some_ids(9, 7);
  BlockTable a;
  run({{&a, stem}});
  BlockTable b = a;
  for (const BlockId block : b.blocks) pool_.share(block);
  const auto logits = run({{&a, left}, {&b, right}});
  EXPECT_EQ(a.blocks[0], b.blocks[0]);  // full, still shared
  EXPECT_NE(a.blocks[1], b.blocks[1]);
  EXPECT_TRUE(at::allclose(logits[0], whole(at::cat({stem, left})).narrow(0, 20, 9), 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(logits[1], whole(at::cat({stem, right})).narrow(0, 20, 9), 1e-4, 1e-4));
}

TEST_F(PagedBatchTest, Int8StaysNear) {
  PageStore store(model_->config, 10, at::kChar, at::kCPU);
  const at::Tensor ids = some_ids(100);
  BlockTable table;
  make_room(table, 100, pool_, store);
  PagedBatch batch(store);
  batch.add(table, 100);
  const at::Tensor got = model_->logits(model_->forward(ids, batch)), expected = whole(ids);
  EXPECT_FALSE(got.equal(expected));
  EXPECT_LT((got - expected).norm().item<double>() / expected.norm().item<double>(), 0.05);
  EXPECT_LT(store.block_bytes(), PageStore(model_->config, 1, at::kFloat, at::kCPU).block_bytes());
}

}  // namespace
}  // namespace llama2zh
