// Against libtorch's log_softmax over whole logits.
#include "llama2zh/kernels/label_log_probs.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

struct Task {
  at::Tensor hidden, weight, labels, token_grad;
};
// Every third row has no label; gradients differ in size and sign.
Task random_task(at::ScalarType type = at::kFloat) {
  Task task{at::randn({29, 16}).to(type).requires_grad_(true),
            at::randn({53, 16}).to(type).requires_grad_(true), at::randint(0, 53, {29}, at::kLong),
            at::randn({29})};
  for (int64_t i = 0; i < 29; i += 3) task.labels[i].fill_(i % 2 == 0 ? -100 : -1);
  return task;
}

at::Tensor plain_log_probs(const Task& task) {
  const at::Tensor all = at::log_softmax(at::linear(task.hidden, task.weight).to(at::kFloat), 1);
  const at::Tensor index = task.labels.clamp_min(0).unsqueeze(1);
  return all.gather(1, index).squeeze(1).masked_fill(task.labels.lt(0), 0);
}

struct TaskGrads {
  at::Tensor hidden, weight;
};
TaskGrads grads_of(const Task& task, const at::Tensor& log_probs) {
  (log_probs * task.token_grad).sum().backward();
  TaskGrads grads{task.hidden.grad().clone(), task.weight.grad().clone()};
  task.hidden.mutable_grad().reset();
  task.weight.mutable_grad().reset();
  return grads;
}

class LabelLogProbs : public ::testing::TestWithParam<int64_t> {};  // chunk_rows

TEST_P(LabelLogProbs, EqualWholeLogitsWithGradients) {
  const Task task = random_task();
  const at::Tensor expected = plain_log_probs(task);
  const TaskGrads expected_grads = grads_of(task, expected);
  const at::Tensor found = label_log_probs(task.hidden, task.weight, task.labels, GetParam());
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  EXPECT_LT(max_difference(found, expected), 1e-5);
  const TaskGrads grads = grads_of(task, found);
  EXPECT_LT(relative_difference(grads.hidden, expected_grads.hidden), 1e-5);
  EXPECT_LT(relative_difference(grads.weight, expected_grads.weight), 1e-5);
}
INSTANTIATE_TEST_SUITE_P(Chunks, LabelLogProbs, ::testing::Values(1, 7, 1024));

TEST(LabelLogProbsCases, FrozenHeadAndNoGradients) {
  Task task = random_task();
  const at::Tensor expected = grads_of(task, plain_log_probs(task)).hidden;
  const at::Tensor frozen = task.weight.detach();
  (label_log_probs(task.hidden, frozen, task.labels, 8) * task.token_grad).sum().backward();
  EXPECT_LT(relative_difference(task.hidden.grad(), expected), 1e-5);
  EXPECT_FALSE(frozen.grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(label_log_probs(task.hidden, task.weight, task.labels).requires_grad());
}

TEST(LabelLogProbsCases, NothingLabelled) {
  Task task = random_task();
  task.labels.fill_(-100);
  const at::Tensor found = label_log_probs(task.hidden, task.weight, task.labels);
  EXPECT_EQ(found.abs().sum().item<float>(), 0);
  const TaskGrads grads = grads_of(task, found);
  EXPECT_EQ(grads.hidden.abs().sum().item<float>(), 0);
  EXPECT_EQ(grads.weight.abs().sum().item<float>(), 0);
}

TEST(LabelLogProbsCases, Bfloat16) {
  const Task task = random_task(at::kBFloat16);
  Task exact = task;
  exact.hidden = task.hidden.detach().to(at::kFloat).requires_grad_(true);
  exact.weight = task.weight.detach().to(at::kFloat).requires_grad_(true);
  const at::Tensor found = label_log_probs(task.hidden, task.weight, task.labels, 8);
  const at::Tensor expected = plain_log_probs(exact);
  EXPECT_LT(relative_difference(found, expected), 1e-2);
  const TaskGrads grads = grads_of(task, found), exact_grads = grads_of(exact, expected);
  EXPECT_LT(relative_difference(grads.hidden.to(at::kFloat), exact_grads.hidden), 3e-2);
  EXPECT_LT(relative_difference(grads.weight.to(at::kFloat), exact_grads.weight), 3e-2);
}

}  // namespace
}  // namespace llama2zh
