#include "kernels/softmax_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/util/Exception.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

struct LossAndGradient {
  double loss = 0;
  at::Tensor gradient;
};

// By autograd over the formula in the header.
LossAndGradient plain_softmax_loss(const at::Tensor& logits, const at::Tensor& labels,
                                   const SoftmaxLossTerms& terms) {
  const at::Tensor z = logits.to(at::kDouble).requires_grad_(true);
  const at::Tensor lse = at::logsumexp(z, {1}, true);
  const at::Tensor row = lse - z.gather(1, labels.unsqueeze(1)) * (1 - terms.label_smoothing) -
                         z.mean(1, true) * terms.label_smoothing + lse.square() * terms.z_loss;
  const at::Tensor loss = row.sum();
  loss.backward();
  return {loss.item<double>(), z.grad()};
}

class SoftmaxLoss
    : public ::testing::TestWithParam<std::tuple<at::ScalarType, int64_t, double, double>> {};

TEST_P(SoftmaxLoss, EqualsTheFormulaAndItsGradient) {
  const auto [type, width, smoothing, z_loss] = GetParam();
  const SoftmaxLossTerms terms{smoothing, z_loss};
  at::Tensor logits = (at::randn({9, width}) * 5).to(type);
  const at::Tensor labels = at::randint(0, width, {9}, at::kLong);
  const LossAndGradient expected = plain_softmax_loss(logits, labels, terms);
  at::Tensor untouched = logits.clone();
  EXPECT_NEAR(softmax_loss_(untouched, labels, terms, false), expected.loss,
              2e-6 * std::abs(expected.loss) + 1e-6);
  EXPECT_TRUE(untouched.equal(logits));
  softmax_loss_(logits, labels, terms, true);
  const double bound = type == at::kFloat ? 2e-6 : 4e-3;
  EXPECT_LT(testing::max_difference(logits, expected.gradient), bound);
}
INSTANTIATE_TEST_SUITE_P(Shapes, SoftmaxLoss,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16),
                                            ::testing::Values(1, 13, 16, 53, 4097),
                                            ::testing::Values(0.0, 0.1),
                                            ::testing::Values(0.0, 1e-2)));

TEST(SoftmaxLossRows, NotANumberShowsInTheLoss) {
  at::Tensor logits = at::randn({2, 33});
  logits[1][7].fill_(NAN);
  EXPECT_TRUE(std::isnan(softmax_loss_(logits, at::randint(0, 33, {2}, at::kLong), {}, true)));
}

TEST(SoftmaxLossRows, ALabelOutsideTheVocabularyIsRefused) {
  at::Tensor logits = at::randn({1, 5});
  const at::Tensor labels = at::randint(5, 6, {1}, at::kLong);
  EXPECT_THROW(softmax_loss_(logits, labels, {}, true), c10::Error);
}

}  // namespace
}  // namespace llama2zh
