#include "llama2zh/kernels/linear_cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <utility>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

struct Problem {
  at::Tensor hidden, weight, labels;
};
// Every third row has no label.
Problem random_problem(int64_t tokens = 29, int64_t width = 16, int64_t vocabulary = 53) {
  Problem p{at::randn({tokens, width}).requires_grad_(true),
            at::randn({vocabulary, width}).requires_grad_(true),
            at::randint(0, vocabulary, {tokens}, at::kLong)};
  for (int64_t i = 0; i < tokens; i += 3) p.labels[i].fill_(i % 2 == 0 ? -100 : -1);
  return p;
}

// libtorch's own cross-entropy over whole logits, summed.
at::Tensor plain_loss(const Problem& p) {
  const at::Tensor labels = p.labels.masked_fill(p.labels.lt(0), -100);
  return at::cross_entropy_loss(at::linear(p.hidden, p.weight), labels, {}, at::Reduction::Sum,
                                -100);
}

struct Grads {
  at::Tensor hidden, weight;
};
Grads take_grads(const Problem& p) {
  Grads grads{p.hidden.grad().clone(), p.weight.grad().clone()};
  p.hidden.mutable_grad().reset();
  p.weight.mutable_grad().reset();
  return grads;
}

class LinearCrossEntropy : public ::testing::TestWithParam<int64_t> {};  // chunk_rows

TEST_P(LinearCrossEntropy, EqualsWholeLogitsWithGradients) {
  const Problem p = random_problem();
  const at::Tensor expected = plain_loss(p);
  (expected / 7).backward();
  const Grads expected_grads = take_grads(p);

  const at::Tensor loss =
      linear_cross_entropy(p.hidden, p.weight, p.labels, {.chunk_rows = GetParam()});
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_LT(relative_difference(loss, expected), 1e-6);
  (loss / 7).backward();
  const Grads grads = take_grads(p);
  EXPECT_LT(relative_difference(grads.hidden, expected_grads.hidden), 1e-5);
  EXPECT_LT(relative_difference(grads.weight, expected_grads.weight), 1e-5);
}
INSTANTIATE_TEST_SUITE_P(Chunks, LinearCrossEntropy, ::testing::Values(1, 4, 19, 1024));

TEST(LinearCrossEntropyRows, UnlabelledRowsAreNeverTouched) {
  const Problem p = random_problem();
  const at::Tensor clean = linear_cross_entropy(p.hidden, p.weight, p.labels);
  const at::Tensor ignored = p.labels.lt(0).unsqueeze(1);
  const at::Tensor hidden = p.hidden.detach().masked_fill(ignored, NAN).requires_grad_(true);
  const at::Tensor loss = linear_cross_entropy(hidden, p.weight, p.labels);
  EXPECT_EQ(max_difference(loss, clean), 0);
  loss.backward();
  EXPECT_TRUE(hidden.grad().isfinite().all().item<bool>());
  EXPECT_EQ(hidden.grad().masked_select(ignored).abs().max().item<double>(), 0);
}

TEST(LinearCrossEntropyRows, NoLabelGivesZeroAndZeroGradients) {
  Problem p = random_problem();
  p.labels.fill_(-100);
  const at::Tensor loss = linear_cross_entropy(p.hidden, p.weight, p.labels);
  EXPECT_EQ(loss.item<double>(), 0);
  loss.backward();
  const Grads grads = take_grads(p);
  EXPECT_EQ(grads.hidden.abs().max().item<double>(), 0);
  EXPECT_EQ(grads.weight.abs().max().item<double>(), 0);
}

TEST(LinearCrossEntropyGradients, OnlyWhatTrainsGetsOne) {
  const Problem p = random_problem();
  linear_cross_entropy(p.hidden, p.weight.detach(), p.labels).backward();
  EXPECT_TRUE(p.hidden.grad().defined());
  linear_cross_entropy(p.hidden.detach(), p.weight, p.labels).backward();
  EXPECT_TRUE(p.weight.grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(linear_cross_entropy(p.hidden, p.weight, p.labels).requires_grad());
}

TEST(LinearCrossEntropyGradients, ASecondBackwardIsAnError) {
  const Problem p = random_problem();
  const at::Tensor loss = linear_cross_entropy(p.hidden, p.weight, p.labels);
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), c10::Error);
}

// transformers' LabelSmoother and PaLM's z-loss over whole logits, summed over the labelled rows.
at::Tensor plain_smoothed_loss(const Problem& p, double smoothing, double z_loss) {
  const at::Tensor rows = p.labels.ge(0).nonzero().squeeze(1);
  const at::Tensor logits = at::linear(p.hidden, p.weight).index_select(0, rows);
  const at::Tensor nll = -at::log_softmax(logits, 1);
  const at::Tensor label = p.labels.index_select(0, rows).unsqueeze(1);
  const at::Tensor smoothed = nll.sum(1) / static_cast<double>(logits.size(1));
  return ((nll.gather(1, label).squeeze(1) * (1 - smoothing)) + smoothed * smoothing +
          at::logsumexp(logits, {1}).square() * z_loss)
      .sum();
}

class LinearCrossEntropyOptions : public ::testing::TestWithParam<std::pair<double, double>> {};

TEST_P(LinearCrossEntropyOptions, SmoothingAndZLossWithGradients) {
  const auto [smoothing, z_loss] = GetParam();
  const Problem p = random_problem();
  const at::Tensor expected = plain_smoothed_loss(p, smoothing, z_loss);
  expected.backward();
  const Grads expected_grads = take_grads(p);
  const LossOptions options{.chunk_rows = 4, .label_smoothing = smoothing, .z_loss = z_loss};
  const at::Tensor loss = linear_cross_entropy(p.hidden, p.weight, p.labels, options);
  EXPECT_LT(relative_difference(loss, expected), 1e-6);
  loss.backward();
  const Grads grads = take_grads(p);
  EXPECT_LT(relative_difference(grads.hidden, expected_grads.hidden), 1e-5);
  EXPECT_LT(relative_difference(grads.weight, expected_grads.weight), 1e-5);
}
INSTANTIATE_TEST_SUITE_P(Values, LinearCrossEntropyOptions,
                         ::testing::Values(std::pair(0.1, 0.0), std::pair(0.0, 1e-2),
                                           std::pair(0.2, 1e-3)));

TEST(LinearCrossEntropyGradients, TrainedRowsStandInForTheLastOnes) {
  Problem p = random_problem();
  plain_loss(p).backward();
  const Grads expected = take_grads(p);
  const at::Tensor rows = p.weight.detach().narrow(0, 40, 13).clone().requires_grad_(true);
  at::Tensor frozen = p.weight.detach().clone();
  frozen.narrow(0, 40, 13).fill_(NAN);  // never read
  const at::Tensor loss = linear_cross_entropy(p.hidden, frozen, p.labels, {.chunk_rows = 5}, rows);
  EXPECT_LT(relative_difference(loss, plain_loss(p)), 1e-6);
  loss.backward();
  EXPECT_FALSE(frozen.grad().defined());
  EXPECT_LT(relative_difference(rows.grad(), expected.weight.narrow(0, 40, 13)), 1e-5);
  EXPECT_LT(relative_difference(p.hidden.grad(), expected.hidden), 1e-5);
}

TEST(LinearCrossEntropyTypes, Bfloat16ActivationsOverAnFp32Master) {
  Problem p = random_problem(300, 64, 101);
  const at::Tensor expected = plain_loss(p);
  expected.backward();
  const Grads exact = take_grads(p);
  const at::Tensor half = p.hidden.detach().to(at::kBFloat16).requires_grad_(true);
  const at::Tensor loss = linear_cross_entropy(half, p.weight, p.labels, {.chunk_rows = 64});
  EXPECT_LT(relative_difference(loss, expected), 1e-2);
  loss.backward();
  EXPECT_EQ(half.grad().scalar_type(), at::kBFloat16);
  EXPECT_EQ(p.weight.grad().scalar_type(), at::kFloat);
  EXPECT_LT(relative_difference(half.grad(), exact.hidden), 5e-2);
  EXPECT_LT(relative_difference(p.weight.grad(), exact.weight), 5e-2);
}

}  // namespace
}  // namespace llama2zh
