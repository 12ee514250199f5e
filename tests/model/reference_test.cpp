// The forward pass, the loss and every gradient against transformers and peft (see
// scripts/make_reference.py, tests/reference/llama/versions.json).
#include <ATen/ops/tensor.h>

#include "llama2zh/formats/safetensors.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::max_difference;
using testing::relative_difference;
using testing::rms_difference;

testing::Batch reference_batch(const TensorSource& source) {
  return {source.load("ids"), source.load("labels"), testing::int_list(source.load("boundaries"))};
}

void expect_reference(Llama& model, const testing::Batch& batch, const TensorSource& expected) {
  EXPECT_LT(max_difference(testing::batch_logits(model, batch), expected.load("logits")), 1e-4);
  const auto supervised = batch.labels.ge(0).sum().item<double>();
  const at::Tensor loss = testing::loss_with_gradients(model, batch, supervised);
  EXPECT_LT(max_difference(loss, expected.load("loss")), 1e-5);
  const auto gradients = testing::take_gradients(model);
  size_t compared = 0;
  for (const TensorInfo& info : expected.tensors()) {
    if (!info.name.starts_with("grad.")) continue;
    const auto found = gradients.find(info.name.substr(5));
    ASSERT_NE(found, gradients.end()) << info.name;
    EXPECT_LT(relative_difference(found->second, expected.load(info.name)), 1e-3) << info.name;
    ++compared;
  }
  EXPECT_EQ(compared, gradients.size());
}

class Reference : public ::testing::TestWithParam<const char*> {};

TEST_P(Reference, LogitsLossAndEveryGradientAgree) {
  const auto folder = testing::reference_folder(GetParam());
  const OpenModel open = open_model(folder);
  const auto expected = open_safetensors(folder / "reference.safetensors");
  const auto model = load_model(open, at::kFloat, at::kCPU);
  train_all_parameters(*model);
  expect_reference(*model, reference_batch(*expected), *expected);
}

TEST_P(Reference, Bfloat16IsAsNearToFp32AsTransformersOwn) {
  const auto folder = testing::reference_folder(GetParam());
  const auto expected = open_safetensors(folder / "reference.safetensors");
  const auto model = load_model(open_model(folder), at::kBFloat16, at::kCPU);
  const at::Tensor exact = expected->load("logits");
  // The largest of so few values is mostly chance, and differs from processor to processor.
  const double theirs = rms_difference(expected->load("logits_bf16"), exact);
  const at::Tensor logits = testing::batch_logits(*model, reference_batch(*expected));
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  const double ours = rms_difference(logits, exact);
  EXPECT_LE(ours, 1.1 * theirs);
  RecordProperty("ours", std::to_string(ours));
  RecordProperty("theirs", std::to_string(theirs));
}

INSTANTIATE_TEST_SUITE_P(Cases, Reference,
                         ::testing::Values("multi_head", "grouped_query_tied", "linear_rope"));

TEST(ReferenceAdapter, LogitsLossAndGradientsAgreeWithPeft) {
  const auto folder = testing::reference_folder("multi_head");
  const auto model = load_model(open_model(folder), at::kFloat, at::kCPU);
  apply_adapter(*model, read_peft_adapter(folder / "adapter"), /*train=*/true);
  const auto batch = reference_batch(*open_safetensors(folder / "reference.safetensors"));
  expect_reference(*model, batch, *open_safetensors(folder / "lora.safetensors"));
}

}  // namespace
}  // namespace llama2zh
