#include "llama2zh/eval/compare_models.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

constexpr TokenId kBos = 1;

// The distribution of the token behind `context`, by one pass of its own.
std::vector<double> log_probs(const Llama& model, const std::vector<TokenId>& context) {
  const at::NoGradGuard no_grad;
  at::Tensor input = at::empty({std::ssize(context)}, at::kLong);
  std::copy(context.begin(), context.end(), input.mutable_data_ptr<int64_t>());
  PackedSequences sequence(input.size(0), at::kCPU);
  const at::Tensor hidden = model.forward(input, sequence);
  const at::Tensor logits = model.logits(hidden.narrow(0, input.size(0) - 1, 1));
  const at::Tensor row = at::log_softmax(logits.to(at::kDouble), 1)[0].contiguous();
  return {row.const_data_ptr<double>(), row.const_data_ptr<double>() + row.size(0)};
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double error_of(const std::vector<double>& values) {
  const double middle = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - middle) * (value - middle);
  const auto count = static_cast<double>(values.size());
  return std::sqrt(squares / count / (count - 1));
}

TEST(CompareModels, EqualsTheNaiveLoop) {
  LlamaConfig config = testing::small_config(40);
  config.initializer_range = 0.5;  // logits that differ
  const auto reference = random_model(config, 3, at::kFloat, at::kCPU),
             model = random_model(config, 4, at::kFloat, at::kCPU);
  std::vector<TokenId> ids;
  for (TokenId i = 0; i < 45; ++i) ids.push_back(3 + (i * i + 5 * i) % 37);
  constexpr int64_t kWindow = 8;
  std::vector<double> kl, difference, same, both;
  for (int64_t i = 0; i < std::ssize(ids); ++i) {
    std::vector<TokenId> context = {kBos};
    context.insert(context.end(), ids.begin() + i / kWindow * kWindow, ids.begin() + i);
    const std::vector<double> p = log_probs(*reference, context), q = log_probs(*model, context);
    double sum = 0;
    for (size_t token = 0; token < p.size(); ++token)
      sum += std::exp(p[token]) * (p[token] - q[token]);
    kl.push_back(sum);
    const auto next = static_cast<size_t>(ids[static_cast<size_t>(i)]);
    difference.push_back(p[next] - q[next]);
    both.push_back(-q[next]);
    same.push_back(std::max_element(p.begin(), p.end()) - p.begin() ==
                   std::max_element(q.begin(), q.end()) - q.begin());
  }
  const ModelDistance got = compare_models(*reference, *model, kBos, ids, kWindow);
  EXPECT_EQ(got.positions, std::ssize(ids));
  EXPECT_GT(got.mean_kl(), 0.05);
  EXPECT_NEAR(got.mean_kl(), mean(kl), 1e-4);
  EXPECT_NEAR(got.kl_error(), error_of(kl), 1e-4);
  EXPECT_NEAR(got.nll_difference(), mean(difference), 1e-4);
  EXPECT_NEAR(got.nll_difference_error(), error_of(difference), 1e-4);
  EXPECT_NEAR(std::log(got.perplexity()), mean(both), 1e-4);
  EXPECT_NEAR(got.top1_agreement(), mean(same), 1e-9);
  EXPECT_NEAR(got.top1_error(), error_of(same), 1e-9);
}

// What both find hard is no difference: the error of the pairs is below that of either model.
TEST(CompareModels, ThePairsAreMoreCertainThanEitherModel) {
  ModelDistance distance;
  distance.positions = 4;  // 1, 2, 3, 4 and 1.5, 2.5, 3.5, 4.5
  distance.reference_nll = 10;
  distance.nll = 12;
  distance.nll_difference_squares = 1;
  EXPECT_DOUBLE_EQ(distance.nll_difference(), 0.5);
  EXPECT_DOUBLE_EQ(distance.nll_difference_error(), 0);
}

TEST(CompareModels, OtherVocabulariesAreRefused) {
  const auto a = random_model(testing::small_config(40), 3, at::kFloat, at::kCPU),
             b = random_model(testing::small_config(41), 3, at::kFloat, at::kCPU);
  EXPECT_THROW(compare_models(*a, *b, kBos, std::vector<TokenId>{3, 4}, 8), Error);
}

}  // namespace
}  // namespace llama2zh
