#include "llama2zh/nn/linear.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "kernels/tensor_checks.h"
#include "llama2zh/kernels/dropout.h"

namespace llama2zh {
namespace {

using testing::max_difference;

Linear random_linear(double dropout = 0) {
  Linear linear;
  linear.weight = at::randn({6, 10});
  linear.lora =
      Lora{at::randn({3, 10}).requires_grad_(true), at::randn({6, 3}).requires_grad_(true),
           /*scaling=*/1.5, dropout};
  return linear;
}

TEST(Linear, AddsTheScaledLowRankUpdate) {
  const Linear linear = random_linear();
  const at::Tensor x = at::randn({4, 10});
  const at::Tensor w =
      linear.weight + 1.5 * at::matmul(linear.lora->b.detach(), linear.lora->a.detach());
  EXPECT_LT(max_difference(linear.forward(x, true), at::matmul(x, w.t())), 1e-5);
  EXPECT_EQ(linear.in_features(), 10);
  EXPECT_EQ(linear.out_features(), 6);
}

// A device's own form of the weight answers; where a gradient is wanted the codes do.
TEST(Linear, OperatorsAnswerAndCodesTrain) {
  Linear linear;
  const at::Tensor weight = at::randn({48, 64});
  linear.quantized = std::make_shared<QuantizedMatrix>(quantize_rows(weight, 4, 32));
  const QuantizedMatrix other = quantize_rows(-2 * weight, 4, 32);  // tells the two apart
  const auto operators = OperatorWeight::make(other, at::kCPU);
  ASSERT_TRUE(operators);
  linear.operators = std::make_shared<OperatorWeight>(*operators);
  at::Tensor x = at::randn({2, 5, 64});
  const at::Tensor once = at::matmul(x, dequantize(*linear.quantized).t());
  const at::Tensor twice = at::matmul(x, dequantize(other).t());
  const at::NoGradGuard no_grad;
  EXPECT_LT(testing::relative_difference(linear.forward(x.to(at::kBFloat16), false), twice), 0.02);
  EXPECT_LT(testing::relative_difference(linear.forward(x, false), once), 0.02);  // float32
  const std::vector<const Linear*> both = {&linear, &linear};
  for (const at::Tensor& y :
       forward_together(both, {x.view({10, 64}).to(at::kBFloat16), {}}, false))
    EXPECT_LT(testing::relative_difference(y, twice.view({10, 48})), 0.02);
  const at::AutoGradMode with_grad(true);
  const at::Tensor leaf = x.to(at::kBFloat16).requires_grad_(true);
  EXPECT_LT(testing::relative_difference(linear.forward(leaf, true), once), 0.02);
}

// With and without what keeps Linears from going together, the results are those of each alone.
TEST(Linear, TogetherAsAlone) {
  std::vector<Linear> linears(4);
  for (size_t i = 0; i < linears.size(); ++i)
    linears[i].weight = at::randn({6 + static_cast<int64_t>(i), 32});
  const auto expect_alike = [&](const at::Tensor& x) {
    const std::vector<const Linear*> all = {&linears[0], &linears[1], &linears[2], &linears[3]};
    const std::vector<at::Tensor> together = forward_together(all, {x, {}}, false);
    ASSERT_EQ(together.size(), all.size());
    for (size_t i = 0; i < all.size(); ++i)
      EXPECT_TRUE(together[i].equal(all[i]->forward(x, false))) << i;
  };
  const at::Tensor x = at::randn({3, 32});
  expect_alike(x);
  const at::NoGradGuard no_grad;
  expect_alike(x);
  expect_alike(at::randn({200, 32}));
  expect_alike(at::randn({2, 3, 32}));
  for (Linear& linear : linears) {
    linear.quantized = std::make_shared<QuantizedMatrix>(quantize_rows(linear.weight, 8, 32));
    linear.weight.reset();
  }
  expect_alike(x);
  linears[1].activations = Activations::kFloat;
  expect_alike(x);
  linears[2] = random_linear();
  linears[2].weight = at::randn({6, 32});
  linears[2].lora->a = at::randn({3, 32});
  expect_alike(x);
}

// An input's codes stand in for its numbers where they are what the products want.
TEST(Linear, TogetherByCodesThatWereMade) {
  std::vector<Linear> linears(2);
  for (Linear& linear : linears)
    linear.quantized = std::make_shared<QuantizedMatrix>(quantize_rows(at::randn({24, 64}), 4, 32));
  const std::vector<const Linear*> both = {&linears[0], &linears[1]};
  const at::Tensor x = at::randn({3, 64}), ones = at::ones({64}), twos = 2 * ones;
  const at::NoGradGuard no_grad;
  const std::optional<InputFormat> format = wanted_input(both);
  ASSERT_TRUE(format);
  const NormedInput once = rms_norm_input(x, ones, 1e-5, {});
  const NormedInput twice = rms_norm_input(x, twos, 1e-5, format);
  const std::vector<at::Tensor> expected = forward_together(both, once, false);
  std::vector<at::Tensor> got = forward_together(both, {once.x, twice.codes}, false);
  for (size_t i = 0; i < both.size(); ++i)
    EXPECT_LT(max_difference(got[i], 2 * expected[i]), 1e-4) << "codes of twice the input";
  linears[1].quantized =
      std::make_shared<QuantizedMatrix>(quantize_rows(at::randn({24, 64}), 8, -1));
  got = forward_together(both, {once.x, twice.codes}, false);
  EXPECT_LT(max_difference(got[0], 2 * expected[0]), 1e-4);
  EXPECT_TRUE(got[1].equal(linears[1].forward(once.x, false))) << "other groups: its own codes";
}

TEST(Linear, WantsCodesOnlyWhereItsProductsRoundTheirInput) {
  Linear linear;
  const std::vector<const Linear*> one = {&linear};
  linear.weight = at::randn({24, 64});
  EXPECT_FALSE(wanted_input(one));
  linear.quantized = std::make_shared<QuantizedMatrix>(quantize_rows(linear.weight, 8, 32));
  EXPECT_TRUE(wanted_input(one));
  linear.activations = Activations::kFloat;
  EXPECT_FALSE(wanted_input(one));
  linear.activations = Activations::kInt8;
  Linear other = linear;
  const std::vector<const Linear*> two = {&linear, &other};
  EXPECT_TRUE(wanted_input(two));
  other.activations = Activations::kFloat;
  EXPECT_FALSE(wanted_input(two));
  other = linear;
  other.lora = random_linear().lora;
  EXPECT_FALSE(wanted_input(two));
}

TEST(Linear, KeepsLeadingDimensions) {
  const Linear linear = random_linear();
  const at::Tensor x = at::randn({2, 3, 10});
  const at::Tensor y = linear.forward(x, false);
  ASSERT_EQ(y.sizes(), (at::IntArrayRef{2, 3, 6}));
  EXPECT_LT(max_difference(y.view({6, 6}), linear.forward(x.view({6, 10}), false)), 1e-5);
}

TEST(Linear, OnlyTheAdapterGetsGradients) {
  const Linear linear = random_linear();
  linear.forward(at::randn({4, 10}), true).sum().backward();
  EXPECT_FALSE(linear.weight.grad().defined());
  EXPECT_TRUE(linear.lora->a.grad().defined());
  EXPECT_TRUE(linear.lora->b.grad().defined());
}

TEST(Linear, DropsOnlyInTraining) {
  const Linear linear = random_linear(0.5);
  const at::Tensor x = at::randn({40, 10});
  EXPECT_TRUE(linear.forward(x, false).equal(linear.forward(x, false)));
  at::manual_seed(1);
  const at::Tensor first = linear.forward(x, true);
  EXPECT_GT(max_difference(first, linear.forward(x, true)), 1e-3);
  at::manual_seed(1);
  EXPECT_TRUE(first.equal(linear.forward(x, true)));
}

// The fused product against the same sum of products by autograd, with the mask that the seed gives.
TEST(Linear, GradientsAreThoseOfThePlainFormula) {
  Linear linear = random_linear(0.3);
  const at::Tensor x = at::randn({4, 10}).requires_grad_(true), seed = at::randn({4, 6});
  at::manual_seed(3);
  linear.forward(x, true).backward(seed);
  const at::Tensor dx = x.grad().clone(), da = linear.lora->a.grad().clone(),
                   db = linear.lora->b.grad().clone();
  x.mutable_grad().reset();
  linear.lora->a.mutable_grad().reset();
  linear.lora->b.mutable_grad().reset();

  at::manual_seed(3);
  const at::Tensor mask = HashedDropout::draw(0.3).apply(at::ones({4, 10}));
  const at::Tensor low = at::matmul(x * mask, linear.lora->a.t()) * 1.5;
  const at::Tensor y = at::matmul(x, linear.weight.t()) + at::matmul(low, linear.lora->b.t());
  y.backward(seed);
  EXPECT_LT(testing::relative_difference(dx, x.grad()), 1e-5);
  EXPECT_LT(testing::relative_difference(da, linear.lora->a.grad()), 1e-5);
  EXPECT_LT(testing::relative_difference(db, linear.lora->b.grad()), 1e-5);
}

// The branch's input is what is dropped: with x of ones, A of ones and B of ones the update is a
// multiple of the number of survivors, scaled by 1 / (1 - p).
TEST(Linear, DropoutActsOnTheBranchsInput) {
  Linear linear;
  linear.weight = at::ones({1, 100});
  linear.lora = Lora{at::ones({1, 100}), at::ones({1, 1}), 1, 0.25};
  const at::Tensor y = linear.forward(at::ones({200, 100}), true) - 100;
  EXPECT_NEAR(y.mean().item<double>(), 100, 1.5);
  EXPECT_GT(y.std().item<double>(), 1);
}

TEST(Linear, MastersAreCastToTheActivationsType) {
  const Linear linear = random_linear();
  const at::Tensor x = at::randn({4, 10});
  const at::Tensor exact = linear.forward(x, false);
  const at::Tensor half = linear.forward(x.to(at::kBFloat16), false);
  EXPECT_EQ(half.scalar_type(), at::kBFloat16);
  EXPECT_LT(testing::relative_difference(half, exact), 0.03);
  half.sum().backward();
  EXPECT_EQ(linear.lora->a.grad().scalar_type(), at::kFloat);
}

// Many rows of bfloat16, which some processors multiply as float32: what comes out has x's type.
TEST(Linear, ManyRowsOfBfloat16) {
  Linear linear = random_linear();
  linear.weight = linear.weight.to(at::kBFloat16);
  const at::Tensor x = at::randn({200, 10}).to(at::kBFloat16).requires_grad_(true);
  const at::Tensor wide = x.detach().to(at::kFloat).requires_grad_(true);
  const at::Tensor seed = at::randn({200, 6}).to(at::kBFloat16);
  const at::Tensor y = linear.forward(x, true);
  y.backward(seed);
  const at::Tensor db = linear.lora->b.grad().clone();
  linear.lora->b.mutable_grad().reset();
  const at::Tensor exact = linear.forward(wide, true);
  exact.backward(seed.to(at::kFloat));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
  EXPECT_EQ(db.scalar_type(), at::kFloat);
  EXPECT_LT(testing::relative_difference(y.detach(), exact.detach()), 0.02);
  EXPECT_LT(testing::relative_difference(x.grad(), wide.grad()), 0.02);
  EXPECT_LT(testing::relative_difference(db, linear.lora->b.grad()), 0.02);
}

Linear random_dora(double dropout = 0) {
  Linear linear = random_linear(dropout);
  linear.lora->magnitude = at::rand({6}).add_(0.5).requires_grad_(true);
  linear.lora->base_squares = row_squares(linear.weight);
  return linear;
}

// W + s B A with rows of length m, formed whole; the lengths do not carry gradients.
at::Tensor dora_weight(const Linear& linear) {
  const at::Tensor sum =
      linear.weight + at::matmul(linear.lora->b, linear.lora->a) * linear.lora->scaling;
  const at::Tensor norm = at::linalg_vector_norm(sum.detach(), 2, at::IntArrayRef{1});
  return sum * (linear.lora->magnitude / norm).unsqueeze(1);
}

TEST(Dora, EqualsTheWholeMatrixWithGradients) {
  const Linear linear = random_dora();
  const at::Tensor x = at::randn({4, 10}), y_grad = at::randn({4, 6});
  std::vector<at::Tensor> grads;
  for (const bool whole : {true, false}) {
    const at::Tensor y = whole ? at::matmul(x, dora_weight(linear).t()) : linear.forward(x, true);
    (y * y_grad).sum().backward();
    grads.push_back(y.detach());
    for (const at::Tensor& t : {linear.lora->a, linear.lora->b, linear.lora->magnitude}) {
      grads.push_back(t.grad());
      t.mutable_grad().reset();
    }
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_LT(max_difference(grads[i], grads[i + 4]), 1e-4) << i;
}

TEST(Dora, TheLengthsOfTheBaseChangeNothing) {
  Linear linear = random_dora();
  linear.lora->b = at::zeros({6, 3});
  const at::Tensor norm = dora_weight_norm(linear.weight, *linear.lora);
  linear.lora->magnitude = norm;
  const at::Tensor x = at::randn({4, 10});
  EXPECT_LT(max_difference(linear.forward(x, true), at::matmul(x, linear.weight.t())), 1e-5);
  linear.lora->weight_norm = norm * 2;  // as known for good: it is believed
  EXPECT_LT(max_difference(linear.forward(x, false), at::matmul(x, linear.weight.t()) / 2), 1e-5);
}

// PEFT drops the input of the base's share of the change too: y = W x + (g - 1) W d + g s B A d.
TEST(Dora, DropoutReachesTheWholeChange) {
  const Linear linear = random_dora(0.5);
  const at::Tensor x = at::randn({4, 10});
  at::manual_seed(1);
  const at::Tensor dropped = at::dropout(x, 0.5, true);
  at::manual_seed(1);
  const at::Tensor y = linear.forward(x, true);
  const at::Tensor base = linear.weight;
  const at::Tensor expected =
      at::matmul(x, base.t()) + at::matmul(dropped, (dora_weight(linear) - base).t());
  EXPECT_LT(max_difference(y, expected), 1e-4);
}

Linear quantized_linear_layer(int bits, int64_t group_size, bool dora) {
  Linear linear;
  linear.quantized =
      std::make_shared<QuantizedMatrix>(quantize_rows(at::randn({40, 70}), bits, group_size));
  linear.lora =
      Lora{at::randn({3, 70}).requires_grad_(true), at::randn({40, 3}).requires_grad_(true),
           /*scaling=*/1.5};
  if (dora) {
    linear.lora->base_squares = row_squares(linear);
    linear.lora->magnitude = at::rand({40}).add_(0.5).requires_grad_(true);
  }
  return linear;
}

// The same layer over the dequantized weight.
Linear dense_twin(const Linear& linear) {
  Linear twin;
  twin.weight = dequantize(*linear.quantized);
  twin.lora = linear.lora;
  for (at::Tensor* tensor : {&twin.lora->a, &twin.lora->b, &twin.lora->magnitude}) {
    if (tensor->defined()) *tensor = tensor->detach().clone().requires_grad_(true);
  }
  return twin;
}

TEST(QuantizedLinear, TrainsAnAdapterOverTheExactWeight) {
  for (const bool dora : {false, true}) {
    for (const int64_t group_size : {32, -1}) {
      const Linear linear = quantized_linear_layer(4, group_size, dora), twin = dense_twin(linear);
      EXPECT_EQ(linear.in_features(), 70);
      EXPECT_EQ(linear.out_features(), 40);
      const at::Tensor x = at::randn({5, 70}).requires_grad_(true);
      const at::Tensor x2 = x.detach().clone().requires_grad_(true), y_grad = at::randn({5, 40});
      const at::Tensor y = linear.forward(x, true), expected = twin.forward(x2, true);
      EXPECT_LT(max_difference(y, expected), 1e-4);
      y.backward(y_grad);
      expected.backward(y_grad);
      EXPECT_LT(max_difference(x.grad(), x2.grad()), 1e-4);
      EXPECT_LT(max_difference(linear.lora->a.grad(), twin.lora->a.grad()), 1e-3);
      EXPECT_LT(max_difference(linear.lora->b.grad(), twin.lora->b.grad()), 1e-3);
    }
  }
}

TEST(QuantizedLinear, AnswersWithTheProductItsActivationsName) {
  Linear linear = quantized_linear_layer(8, 32, false);
  linear.lora.reset();
  const at::Tensor x = at::randn({2, 3, 70}),
                   exact = at::matmul(x, dequantize(*linear.quantized).t());
  for (const Activations kind : {Activations::kInt8, Activations::kFloat}) {
    linear.activations = kind;
    const at::Tensor y = linear.forward(x, false);
    EXPECT_TRUE(y.view({6, 40}).equal(quantized_product(x.view({6, 70}), *linear.quantized, kind)));
    EXPECT_LT(max_difference(y, exact), kind == Activations::kFloat ? 1e-4 : 0.5);
  }
}

}  // namespace
}  // namespace llama2zh
