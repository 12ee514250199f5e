// adapter_config.json's rules: defaults, refusals, patterns, scaling.
#include <chrono>

#include "formats/module_pattern.h"
#include "formats/peft_test_util.h"
#include "llama2zh/formats/peft.h"

namespace llama2zh::foreign_test {
namespace {

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

}  // namespace
}  // namespace llama2zh::foreign_test
