// PEFT adapter folders: every spelling of names, the config's rules, broken files, writing. Whether
// PEFT itself agrees is asked by tests/oracles/peft_oracle.py.
#include "llama2zh/formats/peft.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <chrono>
#include <cmath>
#include <cstdlib>

#include "formats/foreign_test_util.h"
#include "formats/module_pattern.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh::foreign_test {
namespace {

using Named = std::vector<std::pair<std::string, at::Tensor>>;

constexpr const char* kQ = "model.layers.0.self_attn.q_proj";
constexpr const char* kUp = "model.layers.1.mlp.up_proj";

ordered_json short_config() {
  return ordered_json::parse(R"({"peft_type": "LORA", "task_type": "CAUSAL_LM",
      "base_model_name_or_path": "base", "r": 4, "lora_alpha": 16, "lora_dropout": 0.1,
      "target_modules": ["q_proj", "up_proj"], "modules_to_save": ["embed_tokens", "lm_head"],
      "bias": "none", "fan_in_fan_out": false, "inference_mode": true})");
}

// What a fresh PEFT 0.21 writes beside the short list: nulls, empties and two inert values.
ordered_json long_config() {
  ordered_json config = short_config();
  for (const char* key :
       {"auto_mapping", "revision", "layers_to_transform", "layers_pattern", "megatron_config",
        "trainable_token_indices", "eva_config", "corda_config", "lora_ga_config", "velora_config",
        "alora_invocation_tokens", "layer_replication", "target_parameters", "arrow_config",
        "exclude_modules", "a_key_of_next_year"}) {
    config[key] = nullptr;
  }
  for (const char* key : {"use_dora", "use_rslora", "use_qalora", "lora_bias",
                          "ensure_weight_tying", "a_flag_of_next_year"}) {
    config[key] = false;
  }
  for (const char* key : {"loftq_config", "rank_pattern", "alpha_pattern"}) {
    config[key] = ordered_json::object();
  }
  config["init_lora_weights"] = true;
  config["megatron_core"] = "megatron.core";
  config["qalora_group_size"] = 16;
  config["peft_version"] = "0.21.2";
  return config;
}

class PeftFolder : public TempFolder {
 public:
  explicit PeftFolder(const ordered_json& config = short_config()) { set_config(config); }
  void set_config(const ordered_json& config) {
    write_text(*this / "adapter_config.json", config.dump());
  }
  void set_tensors(const Named& tensors) {
    write_safetensors(*this / "adapter_model.safetensors", tensors);
  }
  PeftAdapter read() const { return read_peft_adapter(path()); }
};

// The tensors of short_config() in the model's names.
struct Values {
  at::Tensor qa = at::randn({4, 8}), qb = at::randn({6, 4});
  at::Tensor ua = at::randn({4, 8}), ub = at::randn({10, 4});
  at::Tensor embed = at::randn({12, 8}), head = at::randn({12, 8});
};

// `tail` follows lora_A and lora_B, `saved` follows embed_tokens and lm_head.
Named spelled(const Values& v, const std::string& prefix, const std::string& tail,
              const std::string& saved) {
  const std::string q = prefix + kQ, up = prefix + kUp;
  return {{q + ".lora_A" + tail, v.qa},
          {q + ".lora_B" + tail, v.qb},
          {up + ".lora_A" + tail, v.ua},
          {up + ".lora_B" + tail, v.ub},
          {prefix + "model.embed_tokens" + saved, v.embed},
          {prefix + "lm_head" + saved, v.head}};
}
constexpr const char* kPrefix = "base_model.model.";
Named usual(const Values& v) { return spelled(v, kPrefix, ".weight", ".weight"); }

void expect_values(const PeftAdapter& adapter, const Values& v, double scaling = 4) {
  ASSERT_EQ(adapter.lora.size(), 2u);
  ASSERT_EQ(adapter.full.size(), 2u);
  EXPECT_TRUE(at::equal(adapter.lora.at(kQ).a, v.qa));
  EXPECT_TRUE(at::equal(adapter.lora.at(kQ).b, v.qb));
  EXPECT_TRUE(at::equal(adapter.lora.at(kUp).a, v.ua));
  EXPECT_TRUE(at::equal(adapter.lora.at(kUp).b, v.ub));
  EXPECT_DOUBLE_EQ(adapter.lora.at(kQ).scaling, scaling);
  EXPECT_TRUE(at::equal(adapter.full.at("model.embed_tokens.weight"), v.embed));
  EXPECT_TRUE(at::equal(adapter.full.at("lm_head.weight"), v.head));
}

TEST(PeftRead, EverySpellingOfNames) {
  const Values v;
  for (const char* prefix : {"base_model.model.", ""}) {
    for (const char* tail : {".weight", ".default.weight", ".sft.weight"}) {
      for (const char* saved : {".weight", ".default.weight", ".modules_to_save.weight",
                                ".modules_to_save.default.weight"}) {
        SCOPED_TRACE(std::string(prefix) + tail + saved);
        PeftFolder folder;
        folder.set_tensors(spelled(v, prefix, tail, saved));
        expect_values(folder.read(), v);
      }
    }
  }
}

TEST(PeftRead, BinAndSafetensorsAreTheSame) {
  const Values v;
  PeftFolder folder;
  write_torch_zip(folder / "adapter_model.bin", usual(v));
  expect_values(folder.read(), v);
  // safetensors is preferred when both are there.
  const Values other;
  folder.set_tensors(usual(other));
  expect_values(folder.read(), other);
  EXPECT_TRUE(is_peft_folder(folder.path()));
  EXPECT_FALSE(is_peft_folder(folder / "absent"));
}

TEST(PeftRead, FrozenCopiesAreIgnored) {
  const Values v;
  Named tensors = spelled(v, kPrefix, ".weight", ".modules_to_save.weight");
  tensors.emplace_back("base_model.model.model.embed_tokens.original_module.weight",
                       at::randn({12, 8}));
  PeftFolder folder;
  folder.set_tensors(tensors);
  expect_values(folder.read(), v);
}

TEST(PeftRead, EmbeddingsThatPeftSavedUnasked) {
  const Values v;
  ordered_json config = short_config();
  config["modules_to_save"] = nullptr;
  PeftFolder folder(config);
  folder.set_tensors(usual(v));
  expect_values(folder.read(), v);
}

TEST(PeftConfigFile, LongListOfDefaultsIsAccepted) {
  PeftFolder folder(long_config());
  const PeftConfig config = read_peft_config(folder.path());
  EXPECT_EQ(config.base_model, "base");
  EXPECT_EQ(config.rank, 4);
  EXPECT_EQ(config.alpha, 16);
  EXPECT_DOUBLE_EQ(config.dropout, 0.1);
  EXPECT_EQ(config.scaling(), 4);
  EXPECT_EQ(config.target_modules, (std::vector<std::string>{"q_proj", "up_proj"}));
  EXPECT_EQ(config.modules_to_save, (std::vector<std::string>{"embed_tokens", "lm_head"}));
  EXPECT_TRUE(config.selection.empty());
}

TEST(PeftConfigFile, DefaultsOfAbsentKeys) {
  PeftFolder folder(ordered_json{{"peft_type", "LORA"}});
  const PeftConfig config = read_peft_config(folder.path());
  EXPECT_EQ(config.rank, 8);
  EXPECT_EQ(config.alpha, 8);
  EXPECT_EQ(config.dropout, 0);
  EXPECT_EQ(config.target_modules, (std::vector<std::string>{"q_proj", "v_proj"}));
}

TEST(PeftConfigFile, KeysThatChangeTheMathematicsAreRefused) {
  const std::vector<std::pair<std::string, ordered_json>> set = {
      {"use_dora", true},
      {"layer_replication", {{0, 4}, {2, 5}}},
      {"trainable_token_indices", {1, 2}},
      {"target_parameters", {"mlp.weight"}},
      {"use_qalora", true},
      {"lora_bias", true},
      {"loftq_config", {{"loftq_bits", 4}}},
      {"a_key_of_next_year", 3},
      {"a_key_of_next_year", "on"},
      {"init_lora_weights", "pissa"},
      {"init_lora_weights", "loftq"},
      {"bias", "all"},
      {"bias", "lora_only"},
      {"task_type", "SEQ_CLS"},
      {"peft_type", "IA3"},
      {"peft_type", nullptr}};
  for (const auto& [key, value] : set) {
    ordered_json config = long_config();
    config[key] = value;
    PeftFolder folder(config);
    expect_error(ErrorKind::kFormat, "adapter_config.json: " + key,
                 [&] { read_peft_config(folder.path()); });
  }
  for (const ordered_json& init :
       {ordered_json("gaussian"), ordered_json(false), ordered_json(nullptr)}) {
    ordered_json config = long_config();
    config["init_lora_weights"] = init;
    EXPECT_EQ(read_peft_config(PeftFolder(config).path()).rank, 4);
  }
}

TEST(PeftConfigFile, WrongTypesAndRanges) {
  const std::vector<std::pair<std::string, ordered_json>> bad = {
      {"r", 0},
      {"r", -8},
      {"r", 2.5},
      {"r", "8"},
      {"r", uint64_t{18446744073709551615u}},
      {"r", 1000000},
      {"lora_alpha", 0},
      {"lora_alpha", "16"},
      {"lora_dropout", 1.5},
      {"lora_dropout", -0.1},
      {"target_modules", 3},
      {"target_modules", {"q_proj", 3}},
      {"target_modules", {""}},
      {"target_modules", {{"q_proj", true}}},
      {"modules_to_save", "lm_head"},
      {"use_rslora", "yes"},
      {"rank_pattern", {1, 2}},
      {"rank_pattern", {{"q_proj", 0}}},
      {"rank_pattern", {{"q_proj", 1.5}}},
      {"alpha_pattern", {{"q_proj", "x"}}},
      {"target_modules", "(q_proj"},
      {"target_modules", "a)|(b"},
      {"target_modules", "(?<=x)q_proj"},
      {"target_modules", R"((q)\1)"},
      {"target_modules", "(?:(?:a{1000}){1000}){1000}"},
      {"target_modules", std::string(1001, 'a')},
      {"rank_pattern", {{"[", 4}}},
      {"alpha_pattern", {{"*", 4}}}};
  for (const auto& [key, value] : bad) {
    ordered_json config = short_config();
    config[key] = value;
    PeftFolder folder(config);
    expect_error(ErrorKind::kFormat, "adapter_config.json: " + key,
                 [&] { read_peft_config(folder.path()); });
  }
  PeftFolder folder;
  write_text(folder / "adapter_config.json", "[]");
  expect_error(ErrorKind::kFormat, "JSON object", [&] { read_peft_config(folder.path()); });
  write_text(folder / "adapter_config.json", "{\"r\": ");
  expect_error(ErrorKind::kFormat, "adapter_config.json", [&] { read_peft_config(folder.path()); });
}

TEST(ModulePattern, MatchesAsPeftDoes) {
  const auto whole = [](const char* pattern, const char* path) {
    return ModulePattern(pattern, ModulePattern::Anchor::kWholePath, "t").matches(path);
  };
  const auto suffix = [](const char* pattern, const char* path) {
    return ModulePattern(pattern, ModulePattern::Anchor::kPathSuffix, "t").matches(path);
  };
  // Results of re.fullmatch(p, path) and of re.match(rf"(.*\.)?({p})$", path) in Python.
  EXPECT_TRUE(whole(R"(.*\.(q|v)_proj)", kQ));
  EXPECT_FALSE(whole("q_proj", kQ));
  EXPECT_FALSE(whole(R"(model\.layers)", kQ));
  EXPECT_TRUE(whole("q_proj|.*up_proj", kUp));
  EXPECT_TRUE(whole(R"(model\.layers\.[01]\..*)", kUp));
  EXPECT_TRUE(suffix("q_proj", kQ));
  EXPECT_FALSE(suffix("_proj", kQ));
  EXPECT_TRUE(suffix("self_attn.q_proj", kQ));
  EXPECT_TRUE(suffix(R"(layers\.0\..*)", kQ));
  EXPECT_FALSE(suffix("^q_proj", kQ));
  EXPECT_TRUE(suffix("k_proj|q_proj", kQ));
  EXPECT_FALSE(suffix("layers.1.*", kQ));
}

TEST(ModulePattern, HostilePatternsEndQuickly) {
  const auto start = std::chrono::steady_clock::now();
  const std::string path(900, 'a');
  for (const char* pattern : {"(a*)*b", "(a|a)*b", "(a|aa)+$b", "((a+)+)+b"}) {
    EXPECT_FALSE(ModulePattern(pattern, ModulePattern::Anchor::kWholePath, "t").matches(path));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(PeftTargets, RegexAndAllLinear) {
  const Values v;
  ordered_json config = short_config();
  config["target_modules"] = R"(model\.layers\.\d+\.(self_attn\.q|mlp\.up)_proj)";
  PeftFolder folder(config);
  folder.set_tensors(usual(v));
  expect_values(folder.read(), v);
  config["target_modules"] = R"(.*q_proj)";
  folder.set_config(config);
  expect_error(ErrorKind::kFormat, "target_modules", [&] { folder.read(); });
  config["target_modules"] = "All-Linear";
  folder.set_config(config);
  const PeftAdapter adapter = folder.read();
  expect_values(adapter, v);
  EXPECT_EQ(adapter.config.target_modules.size(), 7u);
  EXPECT_FALSE(adapter.config.target_is_regex);
  // A list's entry is a whole path or an end after a dot.
  config["target_modules"] = {kQ, "proj"};
  folder.set_config(config);
  expect_error(ErrorKind::kFormat, kUp, [&] { folder.read(); });
}

TEST(PeftScaling, PatternsAndRankStabilised) {
  Values v;
  v.ua = at::randn({9, 8});
  v.ub = at::randn({10, 9});
  ordered_json config = short_config();
  // The first pattern that matches counts, in the file's order.
  config["rank_pattern"] = ordered_json::parse(R"({"mlp.up_proj": 9, "up_proj": 2, "_proj": 3})");
  config["alpha_pattern"] = ordered_json::parse(R"({"layers\\.1\\..*": 18, "up_proj": 1})");
  PeftFolder folder(config);
  folder.set_tensors(usual(v));
  PeftAdapter adapter = folder.read();
  EXPECT_DOUBLE_EQ(adapter.lora.at(kQ).scaling, 4);
  EXPECT_DOUBLE_EQ(adapter.lora.at(kUp).scaling, 2);
  EXPECT_EQ(adapter.config.rank_of(kUp), 9);
  EXPECT_EQ(adapter.config.rank_of(kQ), 4);
  config["use_rslora"] = true;
  folder.set_config(config);
  adapter = folder.read();
  EXPECT_DOUBLE_EQ(adapter.lora.at(kQ).scaling, 8);
  EXPECT_DOUBLE_EQ(adapter.lora.at(kUp).scaling, 6);
  EXPECT_DOUBLE_EQ(adapter.config.scaling_of(kUp), 6);
  config.erase("rank_pattern");
  folder.set_config(config);
  expect_error(ErrorKind::kFormat, "has rank 9, but adapter_config.json says 4",
               [&] { folder.read(); });
}

TEST(PeftRead, BrokenFiles) {
  const Values v;
  PeftFolder folder;
  const auto refuse = [&](const Named& tensors, const std::string& problem) {
    folder.set_tensors(tensors);
    expect_error(ErrorKind::kFormat, problem, [&] { folder.read(); });
  };
  const auto with = [&](const std::string& name, const at::Tensor& tensor) {
    Named tensors = usual(v);
    tensors.emplace_back(name, tensor);
    return tensors;
  };
  const auto replaced = [&](size_t index, const at::Tensor& tensor) {
    Named tensors = usual(v);
    tensors[index].second = tensor;
    return tensors;
  };
  const auto without = [&](size_t index) {
    Named tensors = usual(v);
    tensors.erase(tensors.begin() + static_cast<long>(index));
    return tensors;
  };
  expect_error(ErrorKind::kFormat, "neither adapter_model", [&] { folder.read(); });
  refuse({}, "no adapter tensors at all");
  refuse(without(1), "has no partner: lora_B");
  refuse(without(2), "has no partner: lora_A");
  refuse(without(4), "no weight for \"embed_tokens\"");
  refuse(replaced(0, at::zeros({0})), "is empty");
  refuse(replaced(4, at::zeros({0, 8})), "is empty");
  refuse(replaced(0, at::randn({5, 8})), "[5, 8]");
  refuse(replaced(0, at::randn({4})), "expected [r, in]");
  refuse(replaced(4, at::randn({12})), "[vocab, hidden]");
  refuse(replaced(1, at::ones({6, 4}, at::kLong)), "floating-point");
  const std::string q = std::string(kPrefix) + kQ;
  refuse(with(q + ".lora_A.default.weight", v.qa), "means the same as");
  refuse(with(q + ".lora_A.bias", v.qa), "neither a LoRA matrix");
  refuse(with(q + ".lora_magnitude_vector.default.weight", v.qa), "DoRA");
  refuse(with("base_model.model.model.embed_tokens.lora_embedding_A", v.qa),
         "LoRA on an embedding");
  refuse(with("base_model.model.model.embed_tokens.lora_embedding_B.default", v.qa),
         "LoRA on an embedding");
  refuse(with(q + ".base_layer.weight", v.qa), "modules_to_save");
  refuse(with("base_model.model.model.norm.weight", at::ones({8})), "modules_to_save");
  refuse(with("base_model.model.score.bias", at::ones({8})), "neither a LoRA matrix");
  refuse(with(q + ".lora_A" + std::string(1000, '.') + "weight", v.qa), "characters");
}

TEST(PeftRead, EmptyBinOfABrokenSaver) {
  PeftFolder folder;
  write_torch_zip(folder / "adapter_model.bin", {});
  expect_error(ErrorKind::kFormat, "no adapter tensors at all", [&] { folder.read(); });
  write_text(folder / "adapter_model.bin", std::string(443, '\0'));
  expect_error(ErrorKind::kFormat, "adapter_model.bin", [&] { folder.read(); });
}

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
