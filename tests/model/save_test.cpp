#include <ATen/Context.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/safetensors.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

struct SaveCase {
  const char* name;
  at::ScalarType dtype;
  uint64_t max_shard_bytes;
  bool tied;
};

class SaveModel : public ::testing::TestWithParam<SaveCase> {};

TEST_P(SaveModel, LoadsBackAsItWas) {
  const SaveCase& param = GetParam();
  const TemporaryFolder folder;
  const auto model = testing::small_model(param.tied);
  SaveOptions options;
  options.dtype = param.dtype;
  options.max_shard_bytes = param.max_shard_bytes;
  save_model(folder.path(), *model, nullptr, options);
  const bool sharded = fs::exists(folder.path() / "model.safetensors.index.json");
  EXPECT_EQ(sharded, param.max_shard_bytes < 100000);
  verify_manifest(folder.path(), /*deep=*/true);
  EXPECT_EQ(read_manifest(folder.path()).vocab_size, 97);

  const OpenModel open = open_model(folder.path());
  EXPECT_EQ(open.config.dtype, dtype_name(param.dtype));
  EXPECT_EQ(open.source->find("lm_head.weight") == nullptr, param.tied);
  const auto loaded = load_model(open, at::kFloat, at::kCPU);
  std::map<std::string, at::Tensor> expected;
  model->for_each_weight(
      [&](const std::string& name, at::Tensor& weight) { expected[name] = weight; });
  loaded->for_each_weight([&](const std::string& name, at::Tensor& weight) {
    EXPECT_TRUE(weight.equal(expected.at(name).to(param.dtype).to(at::kFloat))) << name;
  });
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, SaveModel,
    ::testing::Values(SaveCase{"float32", at::kFloat, 5'000'000'000, false},
                      SaveCase{"bfloat16_sharded", at::kBFloat16, 20'000, false},
                      SaveCase{"float16_tied", at::kHalf, 5'000'000'000, true}),
    [](const auto& kind) { return kind.param.name; });

TEST(SaveModelFiles, ConfigsAndTokenizer) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const TemporaryFolder folder;
  LlamaConfig config = testing::small_config();
  config.vocab_size = 512;
  config.eos_token_id = {2, 5};
  config.pad_token_id = 0;
  const auto model = random_model(config, 1, at::kFloat, at::kCPU);
  const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer("tok512_from_bin.model"));
  SaveOptions options;
  options.dtype = at::kBFloat16;
  options.template_name = "llama2";
  save_model(folder.path(), *model, &tokenizer, options);

  const ordered_json written = read_ordered_json_file(folder.path() / "config.json");
  EXPECT_EQ(written["dtype"], "bfloat16");
  EXPECT_EQ(written["torch_dtype"], "bfloat16");
  EXPECT_EQ(written["architectures"][0], "LlamaForCausalLM");
  const ordered_json generation = read_ordered_json_file(folder.path() / "generation_config.json");
  EXPECT_EQ(generation["bos_token_id"], 1);
  EXPECT_EQ(generation["eos_token_id"], ordered_json({2, 5}));
  EXPECT_EQ(generation["pad_token_id"], 0);
  const Tokenizer saved = Tokenizer::load(folder.path());
  EXPECT_EQ(saved.fingerprint(), tokenizer.fingerprint());
  EXPECT_EQ(saved.template_name(), "llama2");
  const Manifest manifest = read_manifest(folder.path());
  EXPECT_EQ(manifest.kind, "model");
  EXPECT_EQ(manifest.tokenizer_sha256, tokenizer.fingerprint());
  check_vocabulary(saved, open_model(folder.path()).config, folder.path());
}

// Folders and logits for tests/oracles/model_oracle.py, which loads them with transformers.
TEST(Oracle, WriteFoldersForTransformers) {
  const char* const target = std::getenv("LLAMA2ZH_ORACLE_FOLDER");
  if (target == nullptr) GTEST_SKIP() << "LLAMA2ZH_ORACLE_FOLDER is not set";
  LlamaConfig linear = testing::small_config();
  linear.rope = {50000, "linear", 4};
  const std::vector<std::pair<std::string, LlamaConfig>> cases = {
      {"plain", testing::small_config()},
      {"tied", testing::small_config(true)},
      {"linear", linear}};
  for (const auto& [name, config] : cases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const fs::path folder = fs::path(target) / (name + "_" + dtype_name(dtype));
      fs::create_directories(folder);
      SaveOptions options;
      options.dtype = dtype;
      options.max_shard_bytes = 30'000;
      save_model(folder, *random_model(config, 3, at::kFloat, at::kCPU), nullptr, options);
      const auto model = load_model(open_model(folder), dtype, at::kCPU);
      at::manual_seed(4);
      const at::Tensor ids = at::randint(0, 97, {8, 40}, at::kLong);
      const testing::Batch batch{ids.view(-1), {}, {0, 40, 80, 120, 160, 200, 240, 280, 320}};
      const at::Tensor logits = testing::batch_logits(*model, batch).view({8, 40, 97});
      write_safetensors(folder / "expected.safetensors", {{"ids", ids}, {"logits", logits}});
    }
  }
}

}  // namespace
}  // namespace llama2zh
