// The losses against TRL's on the same log-probabilities (scripts/make_preference_reference.py), and
// what a batch of pairs gives against one pair after the other.
#include "llama2zh/train/preference_loss.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/expect_error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/data/preference_rows.h"
#include "llama2zh/model/load.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

at::Tensor floats(const json& values) { return at::tensor(values.get<std::vector<float>>()); }

void expect_close(const at::Tensor& found, const json& expected, const std::string& what) {
  const at::Tensor wanted = floats(expected);
  const double scale = std::max(1e-3, wanted.abs().max().item<double>());
  EXPECT_LT((found - wanted).abs().max().item<double>(), 1e-5 * scale) << what;
}

TEST(PreferenceLosses, AreTrlsWithGradients) {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  const json cases = read_json_file(fs::path(source == nullptr ? "." : source) /
                                    "tests/reference/preference.json");
  EXPECT_EQ(cases.size(), 33u);
  for (const json& c : cases) {
    PreferenceConfig config;
    config.loss = c["loss"];
    config.beta = c["beta"];
    config.label_smoothing = c["label_smoothing"];
    config.simpo_gamma = c["simpo_gamma"];
    const std::string what = c["loss"].get<std::string>() + " beta " + c["beta"].dump() +
                             " smoothing " + c["label_smoothing"].dump();
    const PairLogProbs policy{floats(c["chosen"]).requires_grad_(true),
                              floats(c["rejected"]).requires_grad_(true)};
    const PairLogProbs reference{floats(c["ref_chosen"]), floats(c["ref_rejected"])};
    const PairLosses found = preference_losses(config, policy, reference);
    expect_close(found.losses.detach(), c["losses"], what);
    expect_close(found.chosen_rewards, c["chosen_rewards"], what + " chosen_rewards");
    expect_close(found.rejected_rewards, c["rejected_rewards"], what + " rejected_rewards");
    found.losses.sum().backward();
    expect_close(policy.chosen.grad(), c["chosen_grad"], what + " chosen_grad");
    expect_close(policy.rejected.grad(), c["rejected_grad"], what + " rejected_grad");
  }
}

// Rows of pairs: 0 0 1 .. 1 0 0 1 .. 1.
TokenRows pair_rows(int64_t count) {
  const TokenRows answers = random_rows(2 * count, tiny_model_config().vocab_size, 12);
  TokenRows pairs;
  for (int64_t row = 0; row < count; ++row) {
    std::vector<TokenId> ids;
    std::vector<uint8_t> supervised;
    for (const int64_t answer : {2 * row, 2 * row + 1}) {
      ids.insert(ids.end(), answers.ids(answer).begin(), answers.ids(answer).end());
      supervised.insert(supervised.end(), answers.supervised(answer).begin(),
                        answers.supervised(answer).end());
    }
    pairs.add(ids, supervised);
  }
  return pairs;
}

PackedBatch pairs_batch(const TokenRows& rows, int64_t blocks, bool packing, int64_t index) {
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = 24;
  options.micro_batch_size = blocks;
  options.packing = packing;
  options.shuffle = false;
  return BatchLoader(rows, options).batch(0, index);
}

double loss_of(const Llama& model, const PreferenceConfig& config, PackedBatch batch,
               LossMetrics* metrics = nullptr) {
  PreferenceLoss loss(config, 8);
  loss.set_reference({at::tensor(std::vector<float>{-20, -21, -22, -23}),
                      at::tensor(std::vector<float>{-24, -19, -18, -21})});
  loss.prepare(batch);
  PackedSequences sequences(batch.boundaries, at::kCPU);
  const double sum = loss.sum(model, batch, sequences, {}).item<double>();
  if (metrics != nullptr) *metrics = loss.take_metrics();
  EXPECT_TRUE(loss.take_metrics().empty());
  return sum;
}

TEST(PreferenceLoss, PackedPairsAreThePairsOneByOne) {
  const auto model = random_model(tiny_model_config(), 7, at::kFloat, at::kCPU);
  const TokenRows rows = pair_rows(4);
  for (const char* name : {"sigmoid", "ipo", "hinge", "orpo", "simpo"}) {
    PreferenceConfig config;
    config.loss = name;
    const PackedBatch together = pairs_batch(rows, 4, true, 0);
    ASSERT_EQ(together.rows.size(), 4u);
    LossMetrics metrics;
    const double packed = loss_of(*model, config, together, &metrics);
    double alone = 0, chosen = 0;
    for (int64_t i = 0; i < 4; ++i) {
      LossMetrics one;
      alone += loss_of(*model, config, pairs_batch(rows, 1, false, i), &one);  // padded, too
      ASSERT_EQ(one[0].first, "rewards/chosen");
      chosen += one[0].second / 4;
    }
    EXPECT_NEAR(packed, alone, 1e-4 * std::abs(alone)) << name;
    EXPECT_NEAR(metrics[0].second, chosen, 1e-4 * std::max(1.0, std::abs(chosen))) << name;
    EXPECT_EQ(metrics.size(), std::string_view(name) == "orpo" ? 7u : 6u);
  }
}

TEST(PreferenceLoss, SequencesDoNotSeeEachOther) {
  const auto model = random_model(tiny_model_config(), 7, at::kFloat, at::kCPU);
  PackedBatch batch = pairs_batch(pair_rows(1), 1, true, 0);
  split_pairs(batch);
  ASSERT_EQ(batch.boundaries.size(), 3u);
  PackedSequences sequences(batch.boundaries, at::kCPU);
  const at::Tensor before = sequence_log_probs(*model, batch, sequences, {}, 8).sums;
  batch.ids[0].fill_((batch.ids[0].item<int64_t>() + 1) % 48);  // of the chosen sequence
  const at::Tensor after = sequence_log_probs(*model, batch, sequences, {}, 8).sums;
  EXPECT_NE(before[0].item<float>(), after[0].item<float>());
  EXPECT_EQ(before[1].item<float>(), after[1].item<float>());
}

TEST(PreferenceLoss, ARowThatIsNoPairIsRefused) {
  TokenRows rows;
  rows.add(std::vector<TokenId>{1, 2, 3, 4}, std::vector<uint8_t>{0, 0, 1, 1});
  PackedBatch batch = pairs_batch(rows, 1, true, 0);
  EXPECT_NE(error_text_of(ErrorKind::kData, [&] { split_pairs(batch); })
                .find("row 0: the row is no pair"),
            std::string::npos);
}

}  // namespace
}  // namespace llama2zh
