// Merged folders against the sum written out by hand, and against base + adapters through the
// forward pass.
#include "llama2zh/model/merge.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>

#include <csignal>

#include "llama2zh/base/signals.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::max_difference;
namespace fs = std::filesystem;

constexpr const char* kQuery = "model.layers.1.self_attn.q_proj";

LoraConfig small_lora(std::vector<std::string> saved = {}) {
  LoraConfig config;
  config.rank = 4;
  config.alpha = 6;
  config.target_modules = {"q_proj", "down_proj"};
  config.modules_to_save = std::move(saved);
  return config;
}

class MergeTest : public ::testing::Test {
 protected:
  fs::path base(at::ScalarType dtype = at::kFloat, bool tied = false) {
    const fs::path folder = make("base");
    save_model(folder, *testing::small_model(tied), nullptr, SaveOptions{.dtype = dtype});
    return folder;
  }

  // An adapter whose every matrix has values, as training would leave them.
  fs::path adapter(const char* name, uint64_t seed, const LoraConfig& config, bool tied = false) {
    const auto model = testing::small_model(tied);
    inject_lora(*model, config, seed);
    const at::NoGradGuard no_grad;
    for (const NamedParameter& parameter : trained_parameters(*model))
      parameter.tensor.add_(at::randn(parameter.tensor.sizes()), 0.1);
    return save(name, extract_adapter(*model, config, "base", at::kFloat));
  }

  fs::path save(const char* name, const PeftAdapter& adapter) {
    const fs::path folder = make(name);
    write_peft_adapter(folder, adapter, true);
    return folder;
  }

  MergeOptions merge(const fs::path& base, std::vector<fs::path> adapters,
                     const std::string& dtype = "auto") {
    MergeOptions options{.base = base, .adapters = std::move(adapters), .output = make("merged")};
    options.dtype = dtype;
    merge_adapters(options, nullptr);
    return options;
  }

  static at::Tensor weight(const fs::path& folder, const std::string& name) {
    return open_model(folder).source->load(name).clone();
  }
  static at::Tensor delta(const fs::path& adapter, const std::string& module) {
    const LoraPair pair = read_peft_adapter(adapter).lora.at(module);
    return pair.b.mm(pair.a) * pair.scaling;
  }

  fs::path make(const std::string& name) {
    fs::create_directories(folder_.path() / name);
    return folder_.path() / name;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(MergeTest, AddsTheScaledProductAndLeavesTheRest) {
  const fs::path from = base();
  const fs::path trained = adapter("a", 1, small_lora());
  const MergeOptions done = merge(from, {trained});
  const std::string query = std::string(kQuery) + ".weight";
  EXPECT_LT(
      max_difference(weight(done.output, query), weight(from, query) + delta(trained, kQuery)),
      1e-6);
  for (const char* untouched : {"model.layers.1.self_attn.k_proj.weight", "lm_head.weight"})
    EXPECT_TRUE(weight(done.output, untouched).equal(weight(from, untouched))) << untouched;
  const MergeComparison comparison = compare_merge(done.output, done);
  EXPECT_LT(comparison.max_abs_difference, 1e-4);
  EXPECT_EQ(comparison.top1_agreement, 1);
  EXPECT_EQ(comparison.positions, 4 * 64);
}

TEST_F(MergeTest, TheComparisonSeesAWrongMerge) {
  const fs::path from = base();
  MergeOptions done = merge(from, {adapter("a", 1, small_lora())});
  done.adapters = {adapter("b", 2, small_lora({"lm_head"}))};
  EXPECT_GT(compare_merge(done.output, done).max_abs_difference, 0.1);
}

TEST_F(MergeTest, AdaptersAddUpAndTheLastHeadCounts) {
  const fs::path from = base();
  const fs::path a = adapter("a", 1, small_lora({"embed_tokens", "lm_head"}));
  const fs::path b = adapter("b", 2, small_lora({"lm_head"}));
  const MergeOptions done = merge(from, {a, b});
  const std::string query = std::string(kQuery) + ".weight";
  EXPECT_LT(max_difference(weight(done.output, query),
                           weight(from, query) + delta(a, kQuery) + delta(b, kQuery)),
            1e-6);
  EXPECT_TRUE(
      weight(done.output, "lm_head.weight").equal(read_peft_adapter(b).full.at("lm_head.weight")));
  EXPECT_TRUE(weight(done.output, "model.embed_tokens.weight")
                  .equal(read_peft_adapter(a).full.at("model.embed_tokens.weight")));
  EXPECT_LT(compare_merge(done.output, done).max_abs_difference, 1e-4);
}

TEST_F(MergeTest, RoundsOnceAtTheEnd) {
  const fs::path from = base(at::kBFloat16);
  const fs::path a = adapter("a", 1, small_lora());
  const fs::path b = adapter("b", 2, small_lora());
  const MergeOptions done = merge(from, {a, b});
  const std::string query = std::string(kQuery) + ".weight";
  const at::Tensor exact = weight(from, query).to(at::kFloat) + delta(a, kQuery) + delta(b, kQuery);
  const at::Tensor got = weight(done.output, query);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_GE(got.eq(exact.to(at::kBFloat16)).to(at::kFloat).mean().item<float>(), 0.995);
  EXPECT_EQ(weight(merge(from, {a}, "float32").output, query).scalar_type(), at::kFloat);
}

TEST_F(MergeTest, RankAndAlphaPatternsOfPeft) {
  const fs::path from = base();
  const auto model = testing::small_model();
  inject_lora(*model, small_lora(), 1);
  PeftAdapter adapter = extract_adapter(*model, small_lora(), "base", at::kFloat);
  for (auto& [module, pair] : adapter.lora) pair.b = at::randn(pair.b.sizes()) * 0.1;
  LoraPair& special = adapter.lora.at(kQuery);
  special = {at::randn({2, 32}), at::randn({32, 2}), /*scaling=*/10.0 / 2};
  adapter.config.rank_pattern = {{"layers.1.self_attn.q_proj", 2}};
  adapter.config.alpha_pattern = {{"layers.1.self_attn.q_proj", 10}};
  const fs::path saved = save("a", adapter);
  const MergeOptions done = merge(from, {saved});
  const std::string query = std::string(kQuery) + ".weight";
  EXPECT_LT(
      max_difference(weight(done.output, query), weight(from, query) + special.b.mm(special.a) * 5),
      1e-4);
  EXPECT_LT(compare_merge(done.output, done).max_abs_difference, 1e-3);
}

TEST_F(MergeTest, ATiedModelStaysTied) {
  const fs::path from = base(at::kFloat, /*tied=*/true);
  const fs::path trained = adapter("a", 1, small_lora({"embed_tokens"}), /*tied=*/true);
  const MergeOptions done = merge(from, {trained});
  EXPECT_EQ(open_model(done.output).source->find("lm_head.weight"), nullptr);
  EXPECT_FALSE(weight(done.output, "model.embed_tokens.weight")
                   .equal(weight(from, "model.embed_tokens.weight")));
  EXPECT_LT(compare_merge(done.output, done).max_abs_difference, 1e-4);
}

TEST_F(MergeTest, ATiedModelRefusesTwoMatricesThatDiffer) {
  const fs::path from = base(at::kFloat, /*tied=*/true);
  const fs::path trained = adapter("a", 1, small_lora({"embed_tokens", "lm_head"}));
  expect_error(ErrorKind::kFormat, "embed_tokens and lm_head differ",
               [&] { merge(from, {trained}); });
}

TEST_F(MergeTest, AnAdapterOfAnotherBaseIsRefused) {
  const fs::path from = base();
  LlamaConfig other = testing::small_config();
  other.hidden_size = 48;
  other.num_hidden_layers = 3;
  other.num_attention_heads = 6;
  const auto model = random_model(other, 1, at::kFloat, at::kCPU);
  inject_lora(*model, small_lora(), 1);
  PeftAdapter foreign = extract_adapter(*model, small_lora(), "other", at::kFloat);
  for (auto& [module, pair] : foreign.lora) pair.b = at::randn(pair.b.sizes());
  expect_error(ErrorKind::kFormat, "[48, 32] matrix, the base has", [&] {
    PeftAdapter wide = foreign;
    std::erase_if(wide.lora, [](const auto& item) { return item.first != kQuery; });
    wide.lora.at(kQuery).a = at::randn({4, 32});
    merge(from, {save("wide", wide)});
  });
  expect_error(ErrorKind::kFormat, "the base has no module model.layers.2", [&] {
    PeftAdapter deep = foreign;
    std::erase_if(deep.lora,
                  [](const auto& item) { return !item.first.starts_with("model.layers.2."); });
    merge(from, {save("deep", deep)});
  });
}

TEST_F(MergeTest, AnAdapterOfAnotherBaseIsRefusedUnlessAllowed) {
  const fs::path model = base(), trained = adapter("a", 1, small_lora());
  Manifest manifest;
  manifest.kind = "adapter";
  manifest.base_identity = model_identity(open_model(model));
  write_manifest(trained, manifest);
  merge(model, {trained});
  manifest.base_identity = std::string(64, '0');
  write_manifest(trained, manifest);
  MergeOptions options{.base = model, .adapters = {trained}, .output = make("other")};
  expect_error(ErrorKind::kFormat, "another base", [&] { merge_adapters(options, nullptr); });
  options.allow_other_base = true;
  merge_adapters(options, nullptr);
}

TEST_F(MergeTest, AStopIsTakenBetweenTensors) {
  const fs::path model = base(), trained = adapter("a", 1, small_lora());
  const MergeOptions options = merge(model, {trained});
  request_stop(SIGTERM);
  EXPECT_THROW(merge_adapters(options, nullptr), Stopped);
  EXPECT_THROW(compare_merge(options.output, options), Stopped);
  clear_stop();
}

}  // namespace
}  // namespace llama2zh
