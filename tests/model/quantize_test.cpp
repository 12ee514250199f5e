#include "llama2zh/model/quantize.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <gmock/gmock.h>

#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/memory.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/safetensors.h"
#include "model/full_weights.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

struct QuantizeCase {
  const char* name;
  QuantizationConfig config;
  bool tied;
};

class QuantizeModel : public ::testing::TestWithParam<QuantizeCase> {
 protected:
  // A source folder and what becomes of it.
  void quantize(const QuantizeOptions& options) {
    model_ = testing::small_model(GetParam().tied);
    std::filesystem::create_directories(folder_.path() / "source");
    std::filesystem::create_directories(result());
    save_model(folder_.path() / "source", *model_, nullptr, {.dtype = at::kFloat});
    quantize_model(open_model(folder_.path() / "source"), result(), options);
  }
  std::filesystem::path result() const { return folder_.path() / "result"; }
  static QuantizeOptions options() {
    QuantizeOptions options{.quantization = GetParam().config, .compute_dtype = at::kFloat};
    if (options.quantization.method != "rtn") {
      for (int64_t i = 0; i < 8; ++i) {
        options.calibration.emplace_back();
        for (int64_t j = 0; j < 40; ++j)
          options.calibration.back().push_back((i * 13 + j * 7) % 97);
      }
    }
    return options;
  }
  // The source with every quantized matrix replaced by what its codes mean.
  at::Tensor expected_logits(const at::Tensor& ids) {
    const OpenModel open = open_model(result());
    LlamaConfig plain = open.config;
    plain.quantization.reset();
    std::map<std::string, TensorInfo> infos;
    for (const TensorInfo& info : expected_tensors(plain, at::kFloat)) infos[info.name] = info;
    model_->for_each_weight([&](const std::string& name, at::Tensor& weight) {
      if (!is_quantized(*open.config.quantization, name, plain.tie_word_embeddings)) return;
      weight = dequantize(load_quantized(*open.source, *open.config.quantization, infos.at(name)));
    });
    // AWQ folds scales into the norms.
    model_->for_each_weight([&](const std::string& name, at::Tensor& weight) {
      if (weight.dim() == 1) weight = open.source->load(name);
    });
    if (plain.tie_word_embeddings) model_->lm_head.weight = model_->embed_tokens;
    PackedSequences context(ids.size(0), at::kCPU);
    return model_->logits(model_->forward(ids, context));
  }

  TemporaryFolder folder_;
  std::unique_ptr<Llama> model_;
};

TEST_P(QuantizeModel, LoadsAsTheModelItsCodesMean) {
  quantize(options());
  const OpenModel open = open_model(result());
  ASSERT_TRUE(open.config.quantization);
  EXPECT_EQ(open.config.quantization->to_json(), GetParam().config.to_json());
  const auto loaded = load_model(open, at::kFloat, at::kCPU);
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::arange(2, 42);
  PackedSequences context(ids.size(0), at::kCPU);
  const at::Tensor logits = loaded->logits(loaded->forward(ids, context));
  const at::Tensor expected = expected_logits(ids);
  // Activations of 8 bits round; those in float do not.
  const double allowed = GetParam().config.activations == "float" ? 1e-4 : 0.1;
  EXPECT_LT((logits - expected).abs().max().item<double>(),
            allowed * expected.abs().max().item<double>());
  EXPECT_FALSE(loaded->layers[0].mlp.up_proj.weight.defined());
}

// A source in fp16, which is not computed in, is converted a layer at a time: the memory that is no
// mapped file stays well below the model (the allocator keeps some of what others had).
TEST(QuantizeMemory, IsThatOfALayer) {
  LlamaConfig config = testing::small_config();
  config.hidden_size = 512;
  config.intermediate_size = 1408;
  config.num_hidden_layers = 16;
  config.head_dim = 128;
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "source");
  save_model(folder.path() / "source", *random_model(config, 1, at::kHalf, at::kCPU), nullptr,
             {.dtype = at::kHalf});
  const OpenModel source = open_model(folder.path() / "source");
  const auto anonymous = [] {
    const ProcessMemory memory = process_memory();
    return memory.resident - memory.file;
  };
  for (const char* method : {"rtn", "gptq"}) {
    QuantizeOptions options{.quantization = {.bits = 8, .group_size = 32, .method = method},
                            .compute_dtype = at::kBFloat16};
    if (options.quantization.method != "rtn") options.calibration.assign(2, {1, 2, 3, 4, 5, 6});
    std::filesystem::create_directories(folder.path() / method);
    const uint64_t before = anonymous();
    uint64_t most = 0;
    quantize_model(source, folder.path() / method, options, [&](const std::string&) {
      most = std::max(most, anonymous() - std::min(before, anonymous()));
    });
    EXPECT_LT(most, 3 * weight_bytes(source) / 4 + (uint64_t{8} << 20)) << method;
  }
}

// An adapter on quantized weights: its gradients are those on the matrices that the codes mean.
TEST_P(QuantizeModel, AnAdapterTrainsOnIt) {
  quantize(options());
  const auto loaded = load_model(open_model(result()), at::kFloat, at::kCPU);
  const testing::Batch batch{at::arange(2, 34), at::arange(3, 35), {0, 20, 32}};
  expected_logits(batch.ids);  // puts dequantized matrices into model_
  std::map<std::string, at::Tensor> gradients[2];
  double losses[2];
  int which = 0;
  for (Llama* model : {loaded.get(), model_.get()}) {
    LoraConfig lora;
    lora.modules_to_save = {};
    inject_lora(*model, lora, /*seed=*/3);
    losses[which] = testing::loss_with_gradients(*model, batch, 32).item<double>();
    gradients[which++] = testing::take_gradients(*model);
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-4);
  ASSERT_EQ(gradients[0].size(), gradients[1].size());
  for (const auto& [name, gradient] : gradients[1]) {
    EXPECT_TRUE(gradients[0].at(name).allclose(gradient, 1e-3, 1e-5)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, QuantizeModel,
    ::testing::Values(
        QuantizeCase{"int8_rows", {.bits = 8, .group_size = -1}, false},
        QuantizeCase{"int8_float", {.bits = 8, .group_size = 32, .activations = "float"}, false},
        QuantizeCase{"int4_head", {.bits = 4, .group_size = 32, .lm_head = true}, false},
        QuantizeCase{"int4_all",
                     {.bits = 4,
                      .group_size = 64,
                      .lm_head = true,
                      .embed_tokens = true,
                      .activations = "float"},
                     false},
        QuantizeCase{"int8_tied", {.bits = 8, .group_size = 32, .lm_head = true}, true},
        QuantizeCase{
            "gptq", {.bits = 4, .group_size = 32, .method = "gptq", .activations = "float"}, false},
        QuantizeCase{
            "awq", {.bits = 4, .group_size = 32, .method = "awq", .activations = "float"}, false},
        QuantizeCase{"awq_rows_head",
                     {.bits = 4, .group_size = -1, .method = "awq", .lm_head = true},
                     false},
        QuantizeCase{
            "awq_int8_tied", {.bits = 8, .group_size = 64, .method = "awq", .lm_head = true}, true},
        QuantizeCase{
            "gptq_head", {.bits = 4, .group_size = -1, .method = "gptq", .lm_head = true}, false}),
    [](const auto& kind) { return kind.param.name; });

class QuantizedFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto model = testing::small_model();
    std::filesystem::create_directories(source());
    std::filesystem::create_directories(result());
    save_model(source(), *model, nullptr, {.dtype = at::kFloat});
    quantize_model(open_model(source()), result(), {.compute_dtype = at::kFloat});
  }
  std::filesystem::path source() const { return folder_.path() / "source"; }
  std::filesystem::path result() const { return folder_.path() / "result"; }
  std::string error_with(const std::string& key, const ordered_json& value) {
    ordered_json config = read_ordered_json_file(result() / "config.json");
    config["quantization_config"][key] = value;
    std::ofstream(result() / "config.json") << config.dump();
    try {
      load_model(open_model(result()), at::kFloat, at::kCPU);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  TemporaryFolder folder_;
};

// An adapter's own embedding and head replace quantized ones.
TEST_F(QuantizedFolder, FullWeightsStandInForQuantizedOnes) {
  QuantizeOptions options{.compute_dtype = at::kFloat};
  options.quantization.lm_head = options.quantization.embed_tokens = true;
  quantize_model(open_model(source()), result(), options);
  const auto model = load_model(open_model(result()), at::kFloat, at::kCPU);
  const auto plain = load_model(open_model(source()), at::kFloat, at::kCPU);
  ASSERT_TRUE(model->lm_head.quantized);
  const at::Tensor ids = at::arange(3, 9);
  EXPECT_FALSE(model->embed(ids).equal(plain->embed(ids)));
  set_full_weight(*model, kEmbeddingName, plain->embed_tokens);
  EXPECT_TRUE(model->embed(ids).equal(plain->embed(ids)));
  const at::Tensor hidden = plain->embed(ids);
  EXPECT_FALSE(model->logits(hidden).equal(plain->logits(hidden)));
  set_full_weight(*model, kHeadName, plain->lm_head.weight);
  EXPECT_TRUE(model->logits(hidden).equal(plain->logits(hidden)));
  EXPECT_TRUE(model->head_weight().equal(plain->head_weight()));
}

TEST_F(QuantizedFolder, WrongConfigsAreNamed) {
  EXPECT_THAT(error_with("bits", 3), HasSubstr("quantization_config.bits is 3"));
  EXPECT_THAT(error_with("bits", 4), HasSubstr("disagree"));
  EXPECT_THAT(error_with("bits", 8), HasSubstr("no error"));
  EXPECT_THAT(error_with("group_size", 48), HasSubstr("quantization_config.group_size is 48"));
  EXPECT_THAT(error_with("group_size", 64), HasSubstr("disagree"));
  EXPECT_THAT(error_with("group_size", -1), HasSubstr("no error"));
  EXPECT_THAT(error_with("lm_head", true), HasSubstr("lm_head.codes is missing"));
  EXPECT_THAT(error_with("lm_head", false), HasSubstr("no error"));
  EXPECT_THAT(error_with("activations", "int4"), HasSubstr("expected int8 or float"));
  EXPECT_THAT(error_with("quant_method", "bitsandbytes"), HasSubstr("another tool"));
}

TEST_F(QuantizedFolder, WhatNeedsWeightsIsRefused) {
  const OpenModel open = open_model(result());
  EXPECT_THROW(refuse_quantized(open, "x"), Error);
  EXPECT_NO_THROW(refuse_quantized(open_model(source()), "x"));
  EXPECT_THROW(quantize_model(open, folder_.path(), {.compute_dtype = at::kFloat}), Error);
  const auto model = load_model(open, at::kFloat, at::kCPU);
  EXPECT_THROW(train_all_parameters(*model), Error);
}

}  // namespace
}  // namespace llama2zh
