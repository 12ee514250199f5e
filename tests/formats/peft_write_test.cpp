// Writing PEFT adapter folders. Whether PEFT itself agrees is asked through tests/oracles/peft_oracle.py.
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

#include <cstdlib>

#include "formats/peft_test_util.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"

namespace llama2zh::foreign_test {
namespace {

PeftAdapter sample_adapter() {
  const Values v;
  PeftAdapter adapter;
  adapter.config.base_model = "chinese-llama2-7b";
  adapter.config.rank = 4;
  adapter.config.alpha = 16;
  adapter.config.dropout = 0.05;
  adapter.config.target_modules = {"q_proj", "up_proj"};
  adapter.config.modules_to_save = {"embed_tokens", "lm_head"};
  adapter.lora[kQ] = {v.qa, v.qb, 4};
  adapter.lora[kUp] = {v.ua, v.ub, 4};
  adapter.full["model.embed_tokens.weight"] = v.embed.to(at::kBFloat16);
  adapter.full["lm_head.weight"] = v.head.to(at::kBFloat16);
  return adapter;
}

TEST(PeftWrite, ReadsBackAndHasPeftsNamesAndTypes) {
  TempFolder folder;
  const PeftAdapter adapter = sample_adapter();
  write_peft_adapter(folder.path(), adapter, /*trained=*/true);
  const PeftAdapter back = read_peft_adapter(folder.path());
  EXPECT_TRUE(at::equal(back.lora.at(kQ).b, adapter.lora.at(kQ).b));
  EXPECT_EQ(back.full.at("lm_head.weight").scalar_type(), at::kBFloat16);

  const auto file = open_safetensors(folder / "adapter_model.safetensors");
  std::vector<std::string> names;
  for (const TensorInfo& info : file->tensors()) names.push_back(info.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{
                "base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight",
                "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
                "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight",
                "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"}));

  const ordered_json config = read_ordered_json_file(folder / "adapter_config.json");
  EXPECT_EQ(config.dump(), R"({"peft_type":"LORA","task_type":"CAUSAL_LM",)"
                           R"("base_model_name_or_path":"chinese-llama2-7b","r":4,"lora_alpha":16,)"
                           R"("lora_dropout":0.05,"target_modules":["q_proj","up_proj"],)"
                           R"("modules_to_save":["embed_tokens","lm_head"],"bias":"none",)"
                           R"("fan_in_fan_out":false,"inference_mode":true})");
  EXPECT_TRUE(config["lora_alpha"].is_number_integer());

  std::ifstream card(folder / "README.md");
  const std::string text((std::istreambuf_iterator<char>(card)), {});
  EXPECT_THAT(text, testing::StartsWith("---\nbase_model: \"chinese-llama2-7b\"\n"));
  EXPECT_THAT(text, testing::HasSubstr("12 rows"));
}

TEST(PeftWrite, DoraMagnitudesAndTheirAbsence) {
  TempFolder folder;
  PeftAdapter adapter = sample_adapter();
  adapter.config.use_dora = true;
  expect_error(ErrorKind::kData, "no magnitude vector",
               [&] { write_peft_adapter(folder.path(), adapter, true); });
  adapter.lora[kQ].magnitude = at::full({6}, 2.5);
  adapter.lora[kUp].magnitude = at::full({10}, 0.5);
  write_peft_adapter(folder.path(), adapter, true);
  const PeftAdapter back = read_peft_adapter(folder.path());
  EXPECT_TRUE(at::equal(back.lora.at(kQ).magnitude, adapter.lora[kQ].magnitude));
  const auto file = open_safetensors(folder / "adapter_model.safetensors");
  EXPECT_NE(file->find("base_model.model.model.layers.0.self_attn.q_proj"
                       ".lora_magnitude_vector"),
            nullptr);
  adapter.config.use_dora = false;
  expect_error(ErrorKind::kData, "not use_dora",
               [&] { write_peft_adapter(folder.path(), adapter, true); });
}

// PEFT refuses an empty list of targets and has a name for "none".
TEST(PeftWrite, NoTargetsAtAll) {
  TempFolder folder;
  PeftAdapter adapter = sample_adapter();
  adapter.config.target_modules.clear();
  adapter.lora.clear();
  write_peft_adapter(folder.path(), adapter, true);
  EXPECT_EQ(read_ordered_json_file(folder / "adapter_config.json")["target_modules"],
            "dummy-target-modules");
  EXPECT_TRUE(read_peft_config(folder.path()).target_modules.empty());
}

TEST(PeftWrite, KeepsEveryRuleOfTheConfig) {
  TempFolder folder;
  PeftAdapter adapter = sample_adapter();
  adapter.config.use_rslora = true;
  adapter.config.alpha = 2.5;
  adapter.config.dropout = 0;
  adapter.config.target_modules = {R"(model\.layers\.\d+\..*_proj)"};
  adapter.config.target_is_regex = true;
  adapter.config.rank_pattern = {{"z_proj", 2}, {"a_proj", 3}};
  adapter.config.alpha_pattern = {{"up_proj", 3}};
  adapter.config.selection["layers_to_transform"] = {0, 1};
  adapter.lora[kQ].scaling = 1.25;
  adapter.lora[kUp].scaling = 1.5;
  write_peft_adapter(folder.path(), adapter, true);
  const PeftConfig back = read_peft_config(folder.path());
  EXPECT_TRUE(back.use_rslora);
  EXPECT_EQ(back.alpha, 2.5);
  EXPECT_TRUE(back.target_is_regex);
  EXPECT_EQ(back.target_modules, adapter.config.target_modules);
  EXPECT_EQ(back.rank_pattern, adapter.config.rank_pattern);
  EXPECT_EQ(back.alpha_pattern, adapter.config.alpha_pattern);
  EXPECT_EQ(back.selection, adapter.config.selection);
  const ordered_json file = read_ordered_json_file(folder / "adapter_config.json");
  EXPECT_TRUE(file["lora_dropout"].is_number_float());  // 0.0, not 0
}

TEST(PeftWrite, RefusesWhatWouldNotLoadOrDoesNothing) {
  const auto refuse = [](auto change, const std::string& problem) {
    TempFolder folder;
    PeftAdapter adapter = sample_adapter();
    change(adapter);
    expect_error(ErrorKind::kData, problem,
                 [&] { write_peft_adapter(folder.path(), adapter, true); });
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  };
  const auto zero = [](PeftAdapter& adapter) {
    adapter.full.clear();
    adapter.config.modules_to_save.clear();
    for (auto& [module, pair] : adapter.lora) pair.b = at::zeros_like(pair.b);
  };
  refuse(zero, "every lora_B is zero");
  refuse(
      [](PeftAdapter& adapter) {  // with full matrices beside them too
        for (auto& [module, pair] : adapter.lora) pair.b = at::zeros_like(pair.b);
      },
      "every lora_B is zero");
  refuse(
      [](PeftAdapter& adapter) {
        adapter.lora.clear();
        adapter.full.clear();
      },
      "no tensors");
  refuse([](PeftAdapter& adapter) { adapter.lora[kQ].scaling = 1; }, "has scaling 1");
  refuse([](PeftAdapter& adapter) { adapter.config.rank = 5; }, "has rank 4");
  refuse([](PeftAdapter& adapter) { adapter.config.target_modules = {"q_proj"}; },
         "target_modules");
  refuse([](PeftAdapter& adapter) { adapter.config.modules_to_save = {"lm_head"}; },
         "modules_to_save");
  refuse([](PeftAdapter& adapter) { adapter.lora[kQ].a = at::Tensor(); }, "is empty");
  refuse([](PeftAdapter& adapter) { adapter.lora[kQ].b = at::full({6, 4}, std::nan("")); }, "NaN");
  // An untrained adapter of zeros is allowed.
  TempFolder folder;
  PeftAdapter fresh = sample_adapter();
  zero(fresh);
  write_peft_adapter(folder.path(), fresh, /*trained=*/false);
  EXPECT_EQ(read_peft_adapter(folder.path()).lora.size(), 2u);
  // So is one of full matrices alone, which has no B.
  TempFolder full_only;
  PeftAdapter full = sample_adapter();
  full.lora.clear();
  write_peft_adapter(full_only.path(), full, /*trained=*/true);
  EXPECT_EQ(read_peft_adapter(full_only.path()).full.size(), full.full.size());
}

// Live: PEFT writes an adapter, we read and rewrite it, PEFT loads ours and gives the same logits.
TEST(PeftOracle, PeftLoadsWhatWeWrite) {
  const char* python = std::getenv("LLAMA2ZH_ORACLE_PYTHON");
  const char* root = std::getenv("LLAMA2ZH_SOURCE_DIR");
  if (!python || !root) GTEST_SKIP() << "LLAMA2ZH_ORACLE_PYTHON is not set";
  TempFolder folder;
  const std::string oracle = cat("'", python, "' '", root, "/tests/oracles/peft_oracle.py' ");
  const std::string quiet = cat(" 2>>'", (folder / "log").string(), "'");
  ASSERT_EQ(std::system(cat(oracle, "make '", folder.path().string(), "'", quiet).c_str()), 0)
      << format_test::bytes_of(folder / "log");
  const json wanted = read_json_file(folder / "logits.json");
  for (const char* name : {"adapter", "adapter_bin", "adapter_plain"}) {
    SCOPED_TRACE(name);
    const std::filesystem::path ours = folder / "ours", answer = folder / "answer.json";
    std::filesystem::create_directory(ours);
    write_peft_adapter(ours, read_peft_adapter(folder / name), /*trained=*/true);
    ASSERT_EQ(std::system(cat(oracle, "logits '", (folder / "base").string(), "' '", ours.string(),
                              "' >'", answer.string(), "'", quiet)
                              .c_str()),
              0)
        << format_test::bytes_of(folder / "log");
    const char* key = std::string_view(name) == "adapter_plain" ? name : "adapter";
    EXPECT_EQ(read_json_file(answer)["adapter"], wanted[key]);
    EXPECT_NE(wanted[key], wanted["base"]);
    std::filesystem::remove_all(ours);
  }
}

}  // namespace
}  // namespace llama2zh::foreign_test
