// GPTQ and AWQ folders: what they mean, and that files which lie are refused.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/gptq_format.h"
#include "model/packed_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using testing::pack_model;
using testing::packed_settings;
using testing::PackedKind;
using testing::TemporaryFolder;
using testing::write_packed_folder;

at::Tensor logits_of(const Llama& model) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::arange(2, 42);
  PackedSequences context(ids.size(0), at::kCPU);
  return model.logits(model.forward(ids, context));
}

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFormat) << error.what();
    return error.what();
  }
  return "no error";
}

// Small, with head_dim 8 and an MLP whose last group is not whole.
class Packed : public ::testing::TestWithParam<PackedKind> {
 protected:
  void SetUp() override {
    model_ = testing::small_model();
    const PackedKind& kind = GetParam();
    const std::string beside = !kind.beside          ? ""
                               : kind.name == "gptq" ? "quantize_config.json"
                                                     : "quant_config.json";
    write_packed_folder(path(), pack_model(*model_, kind), model_->config, packed_settings(kind),
                        beside);
  }
  std::filesystem::path path() const { return folder_.path() / "packed"; }
  void expect_same_logits(const Llama& loaded) const {
    const at::Tensor expected = logits_of(*model_);
    EXPECT_LT((logits_of(loaded) - expected).abs().max().item<double>(),
              1e-4 * expected.abs().max().item<double>());
  }

  TemporaryFolder folder_;
  std::unique_ptr<Llama> model_;  // with the numbers that the folder means
};

TEST_P(Packed, LoadsAsTheNumbersItMeans) {
  const OpenModel open = open_model(path());
  const auto loaded = load_model(open, at::kFloat, at::kCPU);
  std::map<std::string, at::Tensor> expected;
  model_->for_each_projection(
      [&](const std::string& name, Linear& linear) { expected[name] = linear.weight; });
  loaded->for_each_projection([&](const std::string& name, Linear& linear) {
    ASSERT_TRUE(linear.quantized) << name;
    EXPECT_TRUE(at::equal(dequantize(*linear.quantized), expected.at(name))) << name;
    EXPECT_EQ(linear.quantized->zeros.defined(), !GetParam().symmetric) << name;
    const bool several = linear.in_features() > GetParam().group_size;  // groups
    EXPECT_EQ(linear.quantized->columns.defined(), GetParam().act_order && several) << name;
  });
  expect_same_logits(*loaded);
}

TEST_P(Packed, ComesAsPlainWeights) {
  const OpenModel open = with_plain_weights(open_model(path()));
  EXPECT_FALSE(open.config.quantization);
  model_->for_each_weight([&](const std::string& name, at::Tensor& weight) {
    EXPECT_TRUE(at::equal(open.source->load(name), weight)) << name;
  });
  std::filesystem::create_directories(folder_.path() / "plain");
  save_model(folder_.path() / "plain", open.config,
             [&](const std::string& name) { return open.source->load(name); }, nullptr,
             {.dtype = at::kFloat});
  expect_same_logits(*load_model(open_model(folder_.path() / "plain"), at::kFloat, at::kCPU));
}

// Written again, GPTQ's tensors are the same bits; AWQ's numbers come through that layout too.
TEST_P(Packed, IsWrittenInGptqsLayout) {
  const PackedKind& kind = GetParam();
  if (kind.group_size > 128 || kind.scales != at::kHalf) GTEST_SKIP() << "comes back otherwise";
  std::filesystem::create_directories(folder_.path() / "gptq");
  write_gptq_model(folder_.path() / "gptq", open_model(path()), 1'000'000'000);
  const OpenModel again = open_model(folder_.path() / "gptq");
  EXPECT_EQ(again.config.quantization->packed->kind, PackedLayout::Kind::kGptq);
  expect_same_logits(*load_model(again, at::kFloat, at::kCPU));
  if (kind.name != "gptq" || kind.v2) return;
  EXPECT_EQ(read_file(folder_.path() / "gptq/model.safetensors").size(),
            read_file(path() / "model.safetensors").size());
  const auto before = open_tensors(path()), after = open_tensors(folder_.path() / "gptq");
  for (const TensorInfo& info : before->tensors())
    EXPECT_TRUE(at::equal(before->load(info.name), after->load(info.name))) << info.name;
}

TEST_P(Packed, AnAdapterTrainsOnIt) {
  const auto loaded = load_model(open_model(path()), at::kFloat, at::kCPU);
  const testing::Batch batch{at::arange(2, 34), at::arange(3, 35), {0, 20, 32}};
  std::map<std::string, at::Tensor> gradients[2];
  int which = 0;
  for (Llama* model : {loaded.get(), model_.get()}) {
    LoraConfig lora;
    lora.modules_to_save = {};
    inject_lora(*model, lora, /*seed=*/3);
    testing::loss_with_gradients(*model, batch, 32);
    gradients[which++] = testing::take_gradients(*model);
  }
  ASSERT_EQ(gradients[0].size(), gradients[1].size());
  for (const auto& [name, gradient] : gradients[1])
    EXPECT_TRUE(gradients[0].at(name).allclose(gradient, 1e-3, 1e-5)) << name;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, Packed,
    ::testing::Values(PackedKind{.name = "gptq", .symmetric = true}, PackedKind{.name = "gptq"},
                      PackedKind{.name = "gptq", .v2 = true},
                      PackedKind{.name = "gptq", .act_order = true},
                      PackedKind{.name = "gptq", .bits = 8, .act_order = true},
                      PackedKind{.name = "gptq", .bits = 8, .group_size = -1},
                      PackedKind{.name = "gptq", .group_size = 128, .beside = true},
                      PackedKind{.name = "gptq", .scales = at::kBFloat16},
                      PackedKind{.name = "awq"}, PackedKind{.name = "awq", .group_size = 256},
                      PackedKind{.name = "awq", .group_size = -1, .beside = true}),
    [](const auto& each) {
      const PackedKind& kind = each.param;
      std::string name = kind.name + std::to_string(kind.bits);
      name += kind.group_size < 0 ? "_row" : "_" + std::to_string(kind.group_size);
      if (kind.v2) name += "_v2";
      if (kind.act_order) name += "_act_order";
      if (kind.symmetric) name += "_symmetric";
      if (kind.beside) name += "_beside";
      return name + (kind.scales == at::kBFloat16 ? "_bf16" : "");
    });

class HostilePacked : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = testing::small_model();
    tensors_ = pack_model(*model_, kind_);
    write();
  }
  void write() { write_packed_folder(path(), tensors_, model_->config, settings_); }
  std::filesystem::path path() const { return folder_.path() / "packed"; }
  std::string error() {
    return error_of([&] { load_model(open_model(path()), at::kFloat, at::kCPU); });
  }
  std::string error_with(const std::string& key, const ordered_json& value) {
    ordered_json config = read_ordered_json_file(path() / "config.json");
    const ordered_json before = config;
    config["quantization_config"][key] = value;
    write_json_file(path() / "config.json", config);
    const std::string result = error();
    write_json_file(path() / "config.json", before);
    return result;
  }
  std::string error_with_tensor(const std::string& name, const at::Tensor& tensor) {
    const auto before = tensors_;
    if (tensor.defined()) {
      tensors_[name] = tensor;
    } else {
      tensors_.erase(name);
    }
    write();
    tensors_ = before;
    const std::string result = error();
    write();
    return result;
  }

  PackedKind kind_{.name = "gptq", .act_order = true};
  ordered_json settings_ = packed_settings(kind_);
  const std::string up_ = "model.layers.1.mlp.up_proj.";
  TemporaryFolder folder_;
  std::unique_ptr<Llama> model_;
  std::map<std::string, at::Tensor> tensors_;
};

TEST_F(HostilePacked, SettingsThatAreNotSupportedAreNamed) {
  EXPECT_EQ(error(), "no error");
  EXPECT_THAT(error_with("bits", 3), HasSubstr("quantization_config.bits is 3"));
  EXPECT_THAT(error_with("bits", "4"), HasSubstr("quantization_config.bits"));
  EXPECT_THAT(error_with("bits", 8), HasSubstr("qweight: it has shape"));
  EXPECT_THAT(error_with("group_size", 48), HasSubstr("quantization_config.group_size is 48"));
  EXPECT_THAT(error_with("group_size", 0), HasSubstr("quantization_config.group_size is 0"));
  EXPECT_THAT(error_with("group_size", -2), HasSubstr("quantization_config.group_size is -2"));
  EXPECT_THAT(error_with("group_size", int64_t{1} << 40), HasSubstr("group_size"));
  EXPECT_THAT(error_with("checkpoint_format", "marlin"), HasSubstr("checkpoint_format"));
  EXPECT_THAT(error_with("is_marlin_format", true), HasSubstr("Marlin"));
  EXPECT_THAT(error_with("dynamic", {{"-:.*", {}}}), HasSubstr("dynamic"));
  EXPECT_THAT(error_with("lm_head", true), HasSubstr("lm_head: its shape [97, 32]"));
  EXPECT_THAT(error_with("quant_method", "bitsandbytes"), HasSubstr("another tool"));
  kind_ = {.name = "awq"};
  settings_ = packed_settings(kind_);
  tensors_ = pack_model(*model_, kind_);
  write();
  EXPECT_EQ(error(), "no error");
  EXPECT_THAT(error_with("version", "gemv"), HasSubstr("quantization_config.version"));
  EXPECT_THAT(error_with("bits", 8), HasSubstr("quantization_config.bits is 8"));
  EXPECT_EQ(error_with("modules_to_not_convert", {"lm_head"}), "no error");
  EXPECT_THAT(error_with("modules_to_not_convert", {"mlp.up_proj"}), HasSubstr("lm_head"));
}

TEST_F(HostilePacked, TensorsThatDoNotFitAreNamed) {
  for (const char* part : {"qweight", "qzeros", "scales"}) {
    const std::string name = up_ + part;
    const at::Tensor whole = tensors_.at(name);
    EXPECT_THAT(error_with_tensor(name, {}), HasSubstr(name));
    EXPECT_THAT(error_with_tensor(name, whole.narrow(0, 0, 1).narrow(1, 0, 3).contiguous()),
                HasSubstr(name + ": it has shape"));
    EXPECT_THAT(error_with_tensor(name, whole.view(-1)), HasSubstr(name + ": it has shape"));
    EXPECT_THAT(error_with_tensor(name, whole.to(at::kByte)), HasSubstr(name + ": it holds"));
  }
  const std::string order = up_ + "g_idx";
  at::Tensor groups = tensors_.at(order).clone();
  EXPECT_THAT(error_with_tensor(order, groups.narrow(0, 0, 31).contiguous()), HasSubstr(order));
  EXPECT_THAT(error_with_tensor(order, {}), HasSubstr(order));
  const std::string down = "model.layers.1.mlp.down_proj.g_idx";
  groups = tensors_.at(down).clone();
  for (const int bad : {-1, 2, 1 << 30}) {
    at::Tensor wrong = groups.clone();
    wrong[5] = bad;
    EXPECT_THAT(error_with_tensor(down, wrong), HasSubstr(cat("it holds ", bad)));
  }
  at::Tensor uneven = groups.clone();
  uneven[5] = 1 - uneven[5];
  EXPECT_THAT(error_with_tensor(down, uneven), HasSubstr("expected each group to have 32 columns"));
  at::Tensor scales = tensors_.at(up_ + "scales").clone();
  scales[0][3] = INFINITY;
  EXPECT_THAT(error_with_tensor(up_ + "scales", scales), HasSubstr("not a finite number"));
  EXPECT_THAT(
      error_with_tensor(up_ + "scales", tensors_.at(up_ + "scales").to(at::kFloat).mul(1.0001)),
      HasSubstr("no float16 number"));
  EXPECT_EQ(error_with_tensor(up_ + "bias", at::zeros({48})), "no error");
  EXPECT_THAT(error_with_tensor(up_ + "bias", at::full({48}, 1.0)), HasSubstr("biases"));
  EXPECT_THAT(error_with_tensor(up_ + "weight", at::zeros({48, 32})), HasSubstr("not part of"));
}

TEST_F(HostilePacked, SettingsThatAreMissingAreAskedFor) {
  ordered_json config = read_ordered_json_file(path() / "config.json");
  config.erase("quantization_config");
  write_json_file(path() / "config.json", config);
  EXPECT_THAT(error(), HasSubstr("quantize_config.json"));
  write_json_file(path() / "quantize_config.json", {{"bits", 2}, {"group_size", 32}});
  EXPECT_THAT(error(), HasSubstr("bits is 2"));
}

TEST_F(HostilePacked, TruncatedFilesAreRefused) {
  const std::string whole = read_file(path() / "model.safetensors");
  for (size_t size = 0; size < whole.size(); size += 997) {
    std::ofstream(path() / "model.safetensors", std::ios::binary)
        .write(whole.data(), static_cast<std::streamsize>(size));
    EXPECT_NE(error(), "no error") << size;
  }
}

TEST_F(HostilePacked, FlippedBytesAreRefusedOrLoad) {
  const std::string whole = read_file(path() / "model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  for (size_t at = 0; at < whole.size(); at += at < header ? 211 : 4999) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (at % 3 == 0 ? '\xff' : '\x01'));
    std::ofstream(path() / "model.safetensors", std::ios::binary) << bytes;
    error();
  }
}

TEST(GptqFormat, WhatItCannotHoldIsRefused) {
  const TemporaryFolder folder;
  const auto model = testing::small_model();
  save_model(folder.path(), *model, nullptr, {.dtype = at::kFloat});
  EXPECT_THROW(check_gptq_output(open_model(folder.path())), Error);
}

}  // namespace
}  // namespace llama2zh
