#include "llama2zh/nn/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

struct Layer {
  at::Tensor w1 = at::randn({12, 8}).requires_grad_(true);
  at::Tensor w2 = at::randn({8, 12}).requires_grad_(true);
  at::Tensor frozen = at::randn({8});
  double dropout = 0;
  int runs = 0;

  at::Tensor forward(const at::Tensor& x) {
    ++runs;
    const at::Tensor dropped = at::dropout(x * frozen, dropout, true);
    return x + at::linear(at::linear(dropped, w1).tanh(), w2);
  }
  at::Tensor checkpointed(const at::Tensor& x) {
    return checkpoint([this](const at::Tensor& input) { return forward(input); }, x,
                      {w1, w2, frozen}, dropout > 0);
  }
};

struct Outcome {
  at::Tensor y, x_grad, w1_grad, w2_grad;
};

// Two applications of the layer, then backward.
Outcome run(Layer& layer, const at::Tensor& x_value, bool x_trains, bool checkpointing) {
  at::manual_seed(5);
  const at::Tensor x = x_value.clone().requires_grad_(x_trains);
  at::Tensor y = checkpointing ? layer.checkpointed(x) : layer.forward(x);
  y = checkpointing ? layer.checkpointed(y) : layer.forward(y);
  y.square().sum().backward();
  Outcome outcome{y.detach(), x.grad(), layer.w1.grad().clone(), layer.w2.grad().clone()};
  layer.w1.mutable_grad().reset();
  layer.w2.mutable_grad().reset();
  return outcome;
}

class Checkpoint : public ::testing::TestWithParam<double> {};  // dropout

TEST_P(Checkpoint, GivesTheSameValuesAndGradients) {
  Layer layer;
  layer.dropout = GetParam();
  const at::Tensor x = at::randn({5, 8});
  const Outcome plain = run(layer, x, true, false);
  layer.runs = 0;
  const Outcome checkpointed = run(layer, x, true, true);
  EXPECT_EQ(layer.runs, 4);  // two forward, two again in backward
  EXPECT_TRUE(checkpointed.y.equal(plain.y));
  EXPECT_TRUE(checkpointed.x_grad.equal(plain.x_grad));
  EXPECT_TRUE(checkpointed.w1_grad.equal(plain.w1_grad));
  EXPECT_TRUE(checkpointed.w2_grad.equal(plain.w2_grad));
}
INSTANTIATE_TEST_SUITE_P(Dropout, Checkpoint, ::testing::Values(0.0, 0.3));

TEST(CheckpointInput, AFrozenInputStillGivesParametersTheirGradient) {
  Layer layer;
  const at::Tensor x = at::randn({5, 8});
  const Outcome plain = run(layer, x, false, false);
  const Outcome checkpointed = run(layer, x, false, true);
  EXPECT_FALSE(checkpointed.x_grad.defined());
  EXPECT_TRUE(checkpointed.w1_grad.equal(plain.w1_grad));
  EXPECT_TRUE(checkpointed.w2_grad.equal(plain.w2_grad));
}

TEST(CheckpointRandom, BackwardLeavesTheGeneratorWhereItWas) {
  Layer layer;
  layer.dropout = 0.5;
  const at::Tensor y = layer.checkpointed(at::randn({5, 8}));
  at::manual_seed(9);
  const at::Tensor expected = at::randn({4});
  at::manual_seed(9);
  y.sum().backward();
  EXPECT_TRUE(at::randn({4}).equal(expected));
}

TEST(CheckpointGraph, NothingIsKeptWithoutGradients) {
  Layer layer;
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(layer.checkpointed(at::randn({5, 8})).requires_grad());
  EXPECT_EQ(layer.runs, 1);
}

TEST(CheckpointGraph, ASecondBackwardIsAnError) {
  Layer layer;
  const at::Tensor y = layer.checkpointed(at::randn({5, 8})).sum();
  y.backward();
  EXPECT_THROW(y.backward(), c10::Error);
}

}  // namespace
}  // namespace llama2zh
