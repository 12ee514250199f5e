#include "llama2zh/kernels/paged_attention.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>

#include "kernels/tensor_checks.h"

namespace llama2zh {
namespace {

using testing::max_difference;

// One sequence of `length` tokens with everything written out, in double: [length, nq, d].
at::Tensor plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t group = q.size(1) / k.size(1), length = q.size(0);
  const auto heads = [&](const at::Tensor& x, int64_t times) {
    return x.to(at::kDouble).repeat_interleave(times, 1).transpose(0, 1);
  };
  at::Tensor scores = at::matmul(heads(q, 1), heads(k, group).transpose(1, 2));
  scores = scores / std::sqrt(static_cast<double>(q.size(2)));
  scores = scores.masked_fill(at::ones({length, length}).tril().eq(0), -INFINITY);
  return at::matmul(at::softmax(scores, -1), heads(v, group)).transpose(0, 1);
}

struct Sample {
  at::Tensor q, k, v;
  std::vector<int32_t> table;
};

Sample make_sample(int64_t length, int64_t group, int64_t kv_heads, int64_t dim,
                   at::ScalarType type) {
  const auto random = [&](int64_t heads) { return at::randn({length, heads, dim}).to(type); };
  return {random(kv_heads * group), random(kv_heads), random(kv_heads), {}};
}

// Gives samples their pages, in an order that no sequence would choose.
void deal_pages(std::vector<Sample>& samples, int64_t pages) {
  int64_t next = 0;
  for (int64_t page = 0; next < pages; ++page) {
    bool any = false;
    for (Sample& sample : samples) {
      if (page * kPageTokens >= sample.q.size(0)) continue;
      sample.table.push_back(static_cast<int32_t>(pages - 1 - next++));
      any = true;
    }
    if (!any) break;
  }
}

// Tokens of sample i that have been fed; a step takes some of several samples.
struct Part {
  size_t sample;
  int64_t from, rows;
};

std::vector<at::Tensor> feed(const std::vector<Sample>& samples, const KvPages& pages,
                             const std::vector<Part>& parts, bool gather = false) {
  std::vector<at::Tensor> q, k, v;
  std::vector<PagedRows> rows;
  int64_t first = 0;
  for (const Part& part : parts) {
    const Sample& s = samples[part.sample];
    q.push_back(s.q.narrow(0, part.from, part.rows));
    k.push_back(s.k.narrow(0, part.from, part.rows));
    v.push_back(s.v.narrow(0, part.from, part.rows));
    rows.push_back({first, part.rows, part.from + part.rows, s.table.data()});
    first += part.rows;
  }
  (gather ? write_pages_by_index : write_pages)(pages, at::cat(k), at::cat(v), rows);
  const at::Tensor out =
      (gather ? paged_attention_by_gather : paged_attention)(at::cat(q), pages, rows);
  std::vector<at::Tensor> result;
  for (const PagedRows& row : rows) result.push_back(out.narrow(0, row.first_row, row.rows));
  return result;
}

struct Shape {
  int64_t group, kv_heads, dim;
  at::ScalarType type, stored;
};
void PrintTo(const Shape& s, std::ostream* out) {
  *out << "group " << s.group << " heads " << s.kv_heads << " d " << s.dim << " "
       << c10::toString(s.type) << " in " << c10::toString(s.stored);
}

double tolerance(const Shape& shape) {
  if (shape.stored == at::kChar) return 0.06;
  return shape.type == at::kBFloat16 ? 0.02 : 2e-6;
}

KvPages broken_pages(int64_t count, const Shape& s) {
  KvPages pages = make_kv_pages(count, s.kv_heads, s.dim, s.stored, at::kCPU);
  // What was never written must never be read.
  for (at::Tensor* t : {&pages.keys, &pages.values, &pages.key_scales, &pages.value_scales}) {
    if (t->defined()) t->fill_(t->is_floating_point() ? NAN : 99);
  }
  return pages;
}

class PagedAttentionShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(PagedAttentionShapes, EqualsPlainAttentionInAnyBatch) {
  const Shape shape = GetParam();
  at::manual_seed(7);
  std::vector<Sample> samples;
  for (const int64_t length : {1, 15, 16, 17, 70, 300, 550})
    samples.push_back(make_sample(length, shape.group, shape.kv_heads, shape.dim, shape.type));
  const int64_t count = 1 + 1 + 1 + 2 + 5 + 19 + 35;
  deal_pages(samples, count);
  for (const bool gather : {false, true}) {
    const KvPages pages = broken_pages(count, shape);
    // Prompts together, all but the last token, then one token each.
    std::vector<Part> prompts, tokens;
    for (size_t i = 0; i < samples.size(); ++i) {
      const int64_t length = samples[i].q.size(0);
      if (length > 1) prompts.push_back({i, 0, length - 1});
      tokens.push_back({i, length - 1, 1});
    }
    const auto first = feed(samples, pages, prompts, gather);
    const auto last = feed(samples, pages, tokens, gather);
    for (size_t i = 0; i < samples.size(); ++i) {
      const Sample& s = samples[i];
      const at::Tensor expected = plain(s.q, s.k, s.v);
      const int64_t length = s.q.size(0);
      EXPECT_LT(max_difference(last[i], expected.narrow(0, length - 1, 1)), tolerance(shape));
      if (i == 0) continue;
      EXPECT_LT(max_difference(first[i - 1], expected.narrow(0, 0, length - 1)), tolerance(shape))
          << "prompt of " << length;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, PagedAttentionShapes,
                         ::testing::Values(Shape{1, 2, 64, at::kFloat, at::kFloat},
                                           Shape{3, 2, 48, at::kFloat, at::kFloat},
                                           Shape{4, 1, 128, at::kFloat, at::kFloat},
                                           Shape{2, 2, 8, at::kFloat, at::kFloat},
                                           Shape{7, 1, 72, at::kFloat, at::kFloat},
                                           Shape{1, 2, 128, at::kBFloat16, at::kBFloat16},
                                           Shape{3, 2, 64, at::kBFloat16, at::kBFloat16},
                                           Shape{4, 2, 48, at::kBFloat16, at::kBFloat16},
                                           Shape{1, 2, 64, at::kFloat, at::kChar},
                                           Shape{3, 1, 48, at::kBFloat16, at::kChar},
                                           Shape{4, 1, 128, at::kBFloat16, at::kChar}));

class PagedAttentionBits : public ::testing::TestWithParam<Shape> {};

TEST_P(PagedAttentionBits, AreTheSameForAnyChunksCompanyAndThreads) {
  const Shape shape = GetParam();
  at::manual_seed(8);
  std::vector<Sample> samples;
  for (const int64_t length : {700, 33, 290})
    samples.push_back(make_sample(length, shape.group, shape.kv_heads, shape.dim, shape.type));
  const int64_t count = 44 + 3 + 19, length = 700;
  deal_pages(samples, count);
  const at::Tensor alone = feed(samples, broken_pages(count, shape), {{0, 0, length}})[0];
  const int threads = at::get_num_threads();
  for (const int64_t chunk : {1, 5, 16, 37, 256, 699}) {
    const KvPages pages = broken_pages(count, shape);
    at::set_num_threads(chunk % 2 == 0 ? 1 : 4);
    std::vector<at::Tensor> parts;
    for (int64_t from = 0; from < length; from += chunk) {
      std::vector<Part> step = {{0, from, std::min(chunk, length - from)}};
      if (from == 0) step.insert(step.begin(), {{1, 0, 33}, {2, 0, 289}});
      if (from == chunk) step.push_back({2, 289, 1});
      for (size_t i = 0; i < step.size(); ++i) {
        if (step[i].sample == 0 && i == step.size() - 1 - (from == chunk)) {
          parts.push_back(feed(samples, pages, step)[i]);
        }
      }
    }
    at::set_num_threads(threads);
    EXPECT_TRUE(at::cat(parts).equal(alone)) << "chunks of " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, PagedAttentionBits,
                         ::testing::Values(Shape{1, 2, 64, at::kFloat, at::kFloat},
                                           Shape{3, 1, 48, at::kBFloat16, at::kBFloat16},
                                           Shape{4, 2, 128, at::kBFloat16, at::kChar}));

TEST(PagedAttention, LaterTokensAreNotSeen) {
  const Shape shape{2, 1, 16, at::kFloat, at::kFloat};
  std::vector<Sample> samples = {make_sample(40, 2, 1, 16, at::kFloat)};
  deal_pages(samples, 3);
  const at::Tensor before = feed(samples, broken_pages(3, shape), {{0, 0, 40}})[0];
  samples[0].k.narrow(0, 30, 10).fill_(1e4);
  samples[0].v.narrow(0, 30, 10).fill_(1e4);
  const at::Tensor after = feed(samples, broken_pages(3, shape), {{0, 0, 40}})[0];
  EXPECT_TRUE(before.narrow(0, 0, 30).equal(after.narrow(0, 0, 30)));
  EXPECT_FALSE(before.narrow(0, 30, 10).equal(after.narrow(0, 30, 10)));
}

TEST(PagedAttention, Int8KeepsWhatIsNotFinite) {
  const Shape shape{1, 1, 16, at::kFloat, at::kChar};
  std::vector<Sample> samples = {make_sample(4, 1, 1, 16, at::kFloat)};
  deal_pages(samples, 1);
  samples[0].v[2][0][5].fill_(NAN);
  const at::Tensor out = feed(samples, broken_pages(1, shape), {{0, 0, 4}})[0];
  EXPECT_TRUE(out.narrow(0, 0, 2).isfinite().all().item<bool>());
  EXPECT_FALSE(out[3].isfinite().any().item<bool>());
}

}  // namespace
}  // namespace llama2zh
