#include "llama2zh/kernels/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <c10/util/Exception.h>

#include <cmath>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;

// Softmax attention of one sequence with everything written out; queries are the last rows.
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t group = q.size(1) / k.size(1), past = k.size(0) - q.size(0);
  const at::Tensor keys = k.repeat_interleave(group, 1).permute({1, 2, 0});  // [nq, d, S]
  const at::Tensor values = v.repeat_interleave(group, 1).transpose(0, 1);   // [nq, S, d]
  at::Tensor scores = at::matmul(q.transpose(0, 1), keys) / std::sqrt(double(q.size(2)));
  const at::Tensor hidden = at::ones({q.size(0), k.size(0)}).tril(past).eq(0);
  scores = scores.masked_fill(hidden, -INFINITY);
  return at::matmul(at::softmax(scores, -1), values).transpose(0, 1);
}

struct Inputs {
  at::Tensor q, k, v;
};
Inputs random_inputs(int64_t tokens, int64_t query_heads, int64_t key_heads) {
  return {at::randn({tokens, query_heads, 16}).requires_grad_(true),
          at::randn({tokens, key_heads, 16}).requires_grad_(true),
          at::randn({tokens, key_heads, 16}).requires_grad_(true)};
}

class PackedAttention : public ::testing::TestWithParam<int64_t> {};  // key-value heads

TEST_P(PackedAttention, EqualsEachSequenceAloneWithGradients) {
  const std::vector<int64_t> boundaries = {0, 5, 6, 6 + 33, 6 + 66, 80};
  const Inputs in = random_inputs(80, 4, GetParam());
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < boundaries.size(); ++i) {
    const int64_t first = boundaries[i], rows = boundaries[i + 1] - first;
    parts.push_back(plain_attention(in.q.narrow(0, first, rows), in.k.narrow(0, first, rows),
                                    in.v.narrow(0, first, rows)));
  }
  const at::Tensor expected = at::cat(parts, 0);
  const at::Tensor seed = at::randn({80, 4, 16});
  expected.backward(seed);
  std::vector<at::Tensor> expected_grads;
  for (const at::Tensor& t : {in.q, in.k, in.v}) {
    expected_grads.push_back(t.grad().clone());
    t.mutable_grad().reset();
  }

  const at::Tensor got = packed_attention(in.q, in.k, in.v, boundaries);
  EXPECT_LT(max_difference(got, expected), 1e-5);
  got.backward(seed);
  EXPECT_LT(relative_difference(in.q.grad(), expected_grads[0]), 1e-5);
  EXPECT_LT(relative_difference(in.k.grad(), expected_grads[1]), 1e-5);
  EXPECT_LT(relative_difference(in.v.grad(), expected_grads[2]), 1e-5);
}
INSTANTIATE_TEST_SUITE_P(Heads, PackedAttention, ::testing::Values(4, 2, 1));

// bfloat16 against the same numbers in float32, over borders of tiles: rounding is all that differs.
class PackedAttentionBfloat16 : public ::testing::TestWithParam<std::tuple<int64_t, int64_t>> {
};  // key-value heads, d

TEST_P(PackedAttentionBfloat16, StaysNearFloat32WithGradients) {
  const auto [key_heads, dim] = GetParam();
  const std::vector<int64_t> boundaries = {0, 1, 64, 128, 193, 400};
  const auto random = [&](int64_t heads) { return at::randn({400, heads, dim}).to(at::kBFloat16); };
  const at::Tensor inputs[] = {random(4), random(key_heads), random(key_heads)}, seed = random(4);
  const auto run = [&](at::ScalarType type) {
    std::vector<at::Tensor> t;
    for (const at::Tensor& x : inputs)
      t.push_back(x.to(type).detach().clone().requires_grad_(true));
    const at::Tensor out = packed_attention(t[0], t[1], t[2], boundaries);
    out.backward(seed.to(type));
    return std::vector<at::Tensor>{out.detach(), t[0].grad(), t[1].grad(), t[2].grad()};
  };
  const std::vector<at::Tensor> exact = run(at::kFloat), got = run(at::kBFloat16);
  for (size_t i = 0; i < exact.size(); ++i) {
    EXPECT_EQ(got[i].scalar_type(), at::kBFloat16);
    const double size = exact[i].square().mean().sqrt().item<double>();
    EXPECT_LT(testing::rms_difference(got[i], exact[i]) / size, 0.006) << i;
    EXPECT_LT(relative_difference(got[i], exact[i]), 0.03) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, PackedAttentionBfloat16,
                         ::testing::Combine(::testing::Values(4, 2, 1),
                                            ::testing::Values(16, 64, 72, 128)));

TEST(PackedAttentionBounds, OneSequenceDoesNotSeeAnother) {
  const Inputs in = random_inputs(12, 2, 2);
  const at::Tensor before = packed_attention(in.q, in.k, in.v, {0, 4, 8, 12}).detach().clone();
  const at::Tensor k = in.k.detach().clone(), v = in.v.detach().clone();
  k.narrow(0, 4, 4).fill_(1e4);
  v.narrow(0, 4, 4).fill_(1e4);
  const at::Tensor after = packed_attention(in.q.detach(), k, v, {0, 4, 8, 12});
  EXPECT_TRUE(before.narrow(0, 0, 4).equal(after.narrow(0, 0, 4)));
  EXPECT_TRUE(before.narrow(0, 8, 4).equal(after.narrow(0, 8, 4)));
  EXPECT_FALSE(before.narrow(0, 4, 4).equal(after.narrow(0, 4, 4)));
}

TEST(PackedAttentionBounds, WrongBoundariesAreRefused) {
  const Inputs in = random_inputs(4, 2, 2);
  for (const auto& bad : std::vector<std::vector<int64_t>>{{}, {0}, {0, 3}, {1, 4}, {0, 2, 2, 4}}) {
    EXPECT_THROW(packed_attention(in.q, in.k, in.v, bad), c10::Error);
  }
}

}  // namespace
}  // namespace llama2zh
