#include <ATen/Context.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randint.h>
#include <c10/core/GradMode.h>

#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

testing::Batch random_batch() {
  const at::Tensor labels = at::randint(0, 97, {18}, at::kLong);
  labels.narrow(0, 2, 3).fill_(-100);
  return {at::randint(0, 97, {18}, at::kLong), labels, {0, 5, 6, 15, 18}};
}

testing::Batch row_of(const testing::Batch& batch, size_t i) {
  const int64_t first = batch.boundaries[i], rows = batch.boundaries[i + 1] - first;
  return {batch.ids.narrow(0, first, rows), batch.labels.narrow(0, first, rows), {0, rows}};
}

void expect_same_gradients(const std::map<std::string, at::Tensor>& got,
                           const std::map<std::string, at::Tensor>& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [name, gradient] : expected) {
    EXPECT_LE(relative_difference(got.at(name), gradient), tolerance) << name;
  }
}

TEST(Forward, APackedBatchEqualsItsRowsOneByOne) {
  const auto model = testing::small_model();
  train_all_parameters(*model);
  const testing::Batch batch = random_batch();
  const at::Tensor logits = testing::batch_logits(*model, batch).detach();
  const double packed = testing::loss_with_gradients(*model, batch, 1).item<double>();
  const auto packed_gradients = testing::take_gradients(*model);
  double alone = 0;
  for (size_t i = 0; i + 1 < batch.boundaries.size(); ++i) {
    const testing::Batch row = row_of(batch, i);
    const at::Tensor slice = logits.narrow(0, batch.boundaries[i], row.ids.size(0));
    EXPECT_LT(max_difference(testing::batch_logits(*model, row), slice), 1e-4);
    alone += testing::loss_with_gradients(*model, row, 1).item<double>();  // gradients add up
  }
  EXPECT_NEAR(packed, alone, 1e-4);
  expect_same_gradients(packed_gradients, testing::take_gradients(*model), 1e-4);
}

TEST(Forward, CheckpointingChangesNoGradientOfFullTraining) {
  const auto model = testing::small_model(/*tied=*/true);
  train_all_parameters(*model);
  const testing::Batch batch = random_batch();
  const at::Tensor plain_loss = testing::loss_with_gradients(*model, batch, 13);
  const auto plain = testing::take_gradients(*model);
  const at::Tensor loss = testing::loss_with_gradients(
      *model, batch, 13, {.training = true, .activation_checkpointing = true});
  EXPECT_TRUE(loss.equal(plain_loss));
  expect_same_gradients(testing::take_gradients(*model), plain, 1e-6);
}

// The trap of reentrant checkpointing: with frozen embeddings no input requires a gradient.
TEST(Forward, CheckpointedLoraTrainsUnderFrozenEmbeddings) {
  const auto model = testing::small_model();
  LoraConfig config;
  config.rank = 4;
  config.dropout = 0.2;
  config.modules_to_save.clear();
  inject_lora(*model, config, 7);
  const testing::Batch batch = random_batch();
  at::manual_seed(3);
  testing::loss_with_gradients(*model, batch, 1, {.training = true});
  const auto plain = testing::take_gradients(*model);
  at::manual_seed(3);
  testing::loss_with_gradients(*model, batch, 1,
                               {.training = true, .activation_checkpointing = true});
  const auto checkpointed = testing::take_gradients(*model);
  expect_same_gradients(checkpointed, plain, 0);
  EXPECT_EQ(checkpointed.size(), 2u * 7 * 2);
  for (const auto& [name, gradient] : checkpointed) {
    if (name.find("lora_B") == std::string::npos) continue;
    EXPECT_GT(gradient.abs().max().item<double>(), 0) << name;
  }
}

TEST(Forward, KeepsNoGraphWhenNothingTrains) {
  const auto model = testing::small_model();
  PackedSequences context(3, at::kCPU);
  const at::Tensor ids = at::randint(0, 97, {3}, at::kLong);
  EXPECT_FALSE(model->forward(ids, context).requires_grad());
}

TEST(Forward, IdsOutsideTheVocabularyAreNamed) {
  const auto model = testing::small_model();
  const at::Tensor ids = at::randint(0, 97, {3}, at::kLong);
  PackedSequences context(3, at::kCPU);
  for (const int64_t bad : {int64_t{97}, int64_t{-1}}) {
    ids[1].fill_(bad);
    testing::expect_error(ErrorKind::kData, std::to_string(bad),
                          [&] { model->forward(ids, context); });
  }
  testing::expect_error(ErrorKind::kData, "no tokens",
                        [&] { model->forward(ids.narrow(0, 0, 0), context); });
}

TEST(Forward, NamesAndOrderAreTheCheckpoints) {
  const auto model = testing::small_model();
  std::vector<std::string> names;
  model->for_each_weight([&](const std::string& name, at::Tensor&) { names.push_back(name); });
  const auto expected = expected_tensors(model->config, at::kFloat);
  ASSERT_EQ(names.size(), expected.size());
  int64_t parameters = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(names[i], expected[i].name);
    parameters += expected[i].numel();
  }
  EXPECT_EQ(parameters, model->config.parameter_count());
  EXPECT_EQ(names.back(), "lm_head.weight");
}

}  // namespace
}  // namespace llama2zh
