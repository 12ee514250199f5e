#include "llama2zh/model/load.h"

#include <ATen/Context.h>
#include <ATen/ops/randint.h>

#include <fstream>
#include <sstream>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/kernels/product.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

void save_small(const std::filesystem::path& folder, at::ScalarType dtype, bool tied = false) {
  const auto model = testing::small_model(tied);
  SaveOptions options;
  options.dtype = dtype;
  save_model(folder, *model, nullptr, options);
}

void edit_config(const std::filesystem::path& folder, const char* key, const ordered_json& value) {
  ordered_json config = read_ordered_json_file(folder / "config.json");
  config[key] = value;
  write_json_file(folder / "config.json", config);
}

// Whether the address lies in a mapping of the file in this process.
bool is_mapped_from(const void* address, const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/maps");
  const auto value = reinterpret_cast<uintptr_t>(address);
  for (std::string line; std::getline(maps, line);) {
    if (line.find(file.filename()) == std::string::npos) continue;
    uintptr_t low = 0, high = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> low >> dash >> high;
    if (low <= value && value < high) return true;
  }
  return false;
}

TEST(LoadModel, MapsWeightsWithoutACopyWhenTypesAgree) {
  const TemporaryFolder folder;
  save_small(folder.path(), at::kBFloat16);
  const OpenModel open = open_model(folder.path());
  const auto file = folder.path() / "model.safetensors";
  const auto mapped = load_model(open, at::kBFloat16, at::kCPU);
  mapped->for_each_weight([&](const std::string& name, at::Tensor& weight) {
    EXPECT_TRUE(is_mapped_from(weight.const_data_ptr(), file)) << name;
  });
  const auto converted = load_model(open, at::kFloat, at::kCPU);
  EXPECT_FALSE(is_mapped_from(converted->norm.const_data_ptr(), file));
  EXPECT_EQ(converted->norm.scalar_type(), at::kFloat);
}

TEST(LoadModel, WorksAfterTheOpenModelIsGone) {
  const TemporaryFolder folder;
  save_small(folder.path(), at::kFloat, /*tied=*/true);
  const auto model = load_model(open_model(folder.path()), at::kFloat, at::kCPU);
  EXPECT_TRUE(model->lm_head.weight.is_same(model->embed_tokens));
  const testing::Batch batch{at::randint(0, 97, {9}, at::kLong), {}, {0, 9}};
  const auto original = testing::small_model(/*tied=*/true);
  EXPECT_TRUE(testing::batch_logits(*model, batch).equal(testing::batch_logits(*original, batch)));
}

// What auto makes of narrow weights on a CPU.
at::ScalarType narrow_type_on_cpu() { return has_fast_bfloat16() ? at::kBFloat16 : at::kFloat; }

TEST(LoadModel, NarrowMatricesStayNarrowUnderFloat32OnACpu) {
  const TemporaryFolder folder;
  save_small(folder.path(), at::kBFloat16);
  const OpenModel open = open_model(folder.path());
  const auto model = load_model(open, at::kFloat, at::kCPU);
  EXPECT_EQ(model->compute_dtype(), at::kFloat);
  EXPECT_EQ(model->layers[0].mlp.up_proj.weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(model->norm.scalar_type(), at::kFloat);
}

TEST(OpenModel, TellsTheStoredTypeWhateverTheConfigSays) {
  const TemporaryFolder folder;
  save_small(folder.path(), at::kHalf);
  edit_config(folder.path(), "dtype", "float32");
  const LlamaConfig config = open_model(folder.path()).config;
  EXPECT_EQ(config.dtype, "float16");
  EXPECT_EQ(parse_dtype("auto", config, at::kCPU), narrow_type_on_cpu());
  EXPECT_EQ(parse_dtype("auto", config, at::kCUDA), at::kHalf);
}

TEST(OpenModel, EveryDisagreementIsListed) {
  const TemporaryFolder folder;
  save_small(folder.path(), at::kFloat);
  edit_config(folder.path(), "num_hidden_layers", 3);
  edit_config(folder.path(), "vocab_size", 98);
  for (const char* part :
       {"disagree in 11 tensors",
        "model.embed_tokens.weight has shape [97, 32] but config.json asks for [98, 32] "
        "(vocab_size 98)",
        "; model.layers.2.self_attn.q_proj.weight is missing; ", "; and 8 more"}) {
    expect_error(ErrorKind::kFormat, part, [&] { open_model(folder.path()); });
  }
  edit_config(folder.path(), "num_hidden_layers", 1);
  edit_config(folder.path(), "vocab_size", 97);
  expect_error(ErrorKind::kFormat, "model.layers.1.input_layernorm.weight is not part",
               [&] { open_model(folder.path()); });
}

TEST(OpenModel, OldBuffersAndASecondTiedHeadAreIgnored) {
  const TemporaryFolder folder;
  const auto model = testing::small_model(/*tied=*/true);
  SaveOptions options;
  save_model(folder.path(), *model, nullptr, options);
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {"lm_head.weight", model->embed_tokens},
      {"model.layers.0.self_attn.rotary_emb.inv_freq", model->norm}};
  model->for_each_weight(
      [&](const std::string& name, at::Tensor& weight) { tensors.emplace_back(name, weight); });
  write_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_TRUE(open_model(folder.path()).config.tie_word_embeddings);
}

TEST(OpenModel, WhatIsNoModelIsNamed) {
  const TemporaryFolder folder;
  expect_error(ErrorKind::kIo, "there is no such", [&] { open_model(folder.path() / "none"); });
  expect_error(ErrorKind::kFormat, "no config.json", [&] { open_model(folder.path()); });
  expect_error(ErrorKind::kFormat, "give the folder",
               [&] { open_model(folder.write("model.safetensors", "x")); });
  expect_error(ErrorKind::kFormat, "LoRA adapter, not a model",
               [&] { open_model(testing::reference_folder("multi_head/adapter")); });
}

TEST(Device, NamesAreChecked) {
  EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU));
  for (const char* bad : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "cuda:1 "}) {
    expect_error(ErrorKind::kUsage, "is not a device", [&] { parse_device(bad); });
  }
  if (at::hasCUDA()) {
    EXPECT_TRUE(parse_device("auto").is_cuda());
    EXPECT_EQ(parse_device("cuda"), at::Device(at::kCUDA, 0));
    expect_error(ErrorKind::kUsage, "numbered from 0", [] { parse_device("cuda:1000"); });
  } else {
    EXPECT_EQ(parse_device("auto"), at::Device(at::kCPU));
    expect_error(ErrorKind::kUsage, "no CUDA device is usable", [] { parse_device("cuda:0"); });
  }
}

TEST(Dtype, NamesAreChecked) {
  LlamaConfig config;
  EXPECT_EQ(parse_dtype("auto", config, at::kCPU), at::kFloat);
  config.dtype = "bfloat16";
  EXPECT_EQ(parse_dtype("auto", config, at::kCPU), narrow_type_on_cpu());
  EXPECT_EQ(parse_dtype("float32", config, at::kCPU), at::kFloat);
  EXPECT_EQ(parse_dtype("float16", config, at::kCUDA), at::kHalf);
  expect_error(ErrorKind::kUsage, "not supported on a CPU",
               [&] { parse_dtype("float16", config, at::kCPU); });
  expect_error(ErrorKind::kUsage, "\"int8\"", [&] { parse_dtype("int8", config, at::kCPU); });
  EXPECT_EQ(dtype_name(at::kBFloat16), "bfloat16");
}

TEST(Vocabulary, MismatchNamesBothSides) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer =
      Tokenizer::load(testing::shared_tokenizer("chinese_llama2_55296.model"));
  LlamaConfig config;
  for (const char* part : {"32000 embedding rows (LLaMA and LLaMA-2 as published)",
                           "55296 pieces (Chinese-LLaMA-Alpaca-2)", "chinese_llama2_55296.model",
                           "/models/base", "extend the model's vocabulary"}) {
    expect_error(ErrorKind::kFormat, part,
                 [&] { check_vocabulary(tokenizer, config, "/models/base"); });
  }
  config.vocab_size = 55296;
  check_vocabulary(tokenizer, config, "/models/base");
  config.vocab_size = 55360;
  expect_error(ErrorKind::kFormat, "55360",
               [&] { check_vocabulary(tokenizer, config, "/models/base"); });
  check_vocabulary(tokenizer, config, "/models/base", /*allow_padding=*/true);
}

TEST(Vocabulary, AnAdaptersRowsAreComparedWithTheBase) {
  const auto adapter = testing::reference_folder("multi_head/adapter");
  LlamaConfig base = testing::small_config();
  check_adapter_vocabulary(adapter, base, "/models/base");
  base.vocab_size = 49953;
  for (const char* part :
       {"a vocabulary of 97", "49953 embedding rows (LLaMA merged", "/models/base", "adapter: "}) {
    expect_error(ErrorKind::kFormat, part,
                 [&] { check_adapter_vocabulary(adapter, base, "/models/base"); });
  }
}

TEST(Vocabulary, AnAdapterWithoutRowsIsKnownByItsManifest) {
  const TemporaryFolder folder;
  const auto model = testing::small_model();
  LoraConfig config;
  config.modules_to_save.clear();
  inject_lora(*model, config, 1);
  write_peft_adapter(folder.path(), extract_adapter(*model, config, "base", at::kFloat), false);
  LlamaConfig other = testing::small_config();
  other.vocab_size = 98;
  check_adapter_vocabulary(folder.path(), other, "/models/base");  // nothing is known
  Manifest manifest;
  manifest.kind = "adapter";
  manifest.vocab_size = 97;
  write_manifest(folder.path(), manifest);
  expect_error(ErrorKind::kFormat, "97",
               [&] { check_adapter_vocabulary(folder.path(), other, "/models/base"); });
}

TEST(ModelIdentity, FollowsShapeAndContents) {
  const TemporaryFolder first, same, other;
  save_small(first.path(), at::kFloat);
  save_small(same.path(), at::kFloat);
  SaveOptions options;
  save_model(other.path(), *testing::small_model(false, /*seed=*/2), nullptr, options);
  const std::string identity = model_identity(open_model(first.path()));
  EXPECT_EQ(identity.size(), 64u);
  EXPECT_EQ(identity, model_identity(open_model(same.path())));
  EXPECT_NE(identity, model_identity(open_model(other.path())));
}

}  // namespace
}  // namespace llama2zh
