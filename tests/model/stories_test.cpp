// A real trained model: stories260K, whose loss and greedy continuation come from transformers.
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "llama2zh/base/json.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

struct Golden {
  std::vector<int64_t> ids;
  double loss = 0;
};
Golden read_golden() {
  const json value = read_json_file(testing::shared_data() / "weights/stories260K_greedy_ids.json");
  return {value.at("greedy_ids").get<std::vector<int64_t>>(),
          value.at("golden_loss_bos_prefixed").get<double>()};
}

class Stories : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    path_ = testing::shared_data() / "weights" / GetParam();
    if (!std::filesystem::exists(path_)) GTEST_SKIP() << "no test data: " << path_;
  }
  std::filesystem::path path_;
};

TEST_P(Stories, LossOfTheGoldenText) {
  const auto model = load_model(open_model(path_), at::kFloat, at::kCPU);
  const Golden golden = read_golden();
  const at::Tensor ids = at::tensor(golden.ids);
  const int64_t count = ids.size(0) - 1;
  const at::NoGradGuard no_grad;
  PackedSequences context(count, at::kCPU);
  const at::Tensor hidden = model->forward(ids.narrow(0, 0, count), context);
  const at::Tensor loss =
      linear_cross_entropy(hidden, model->lm_head.weight, ids.narrow(0, 1, count));
  EXPECT_NEAR(loss.item<double>() / static_cast<double>(count), golden.loss, 1e-5);
}

TEST_P(Stories, GreedyChainFromBos) {
  const auto model = load_model(open_model(path_), at::kFloat, at::kCPU);
  const std::vector<int64_t> expected = read_golden().ids;
  std::vector<int64_t> ids = {expected.front()};
  const at::NoGradGuard no_grad;
  while (ids.size() < expected.size()) {
    PackedSequences context(static_cast<int64_t>(ids.size()), at::kCPU);
    const at::Tensor hidden = model->forward(at::tensor(ids), context);
    ids.push_back(model->logits(hidden.narrow(0, hidden.size(0) - 1, 1)).argmax().item<int64_t>());
  }
  EXPECT_EQ(ids, expected);
}

INSTANTIATE_TEST_SUITE_P(Files, Stories, ::testing::Values("stories260K_hf", "stories260K.bin"),
                         [](const auto& file) {
                           return std::string(file.param).ends_with("bin") ? "llama2c" : "hf";
                         });

}  // namespace
}  // namespace llama2zh
