#include "llama2zh/config/load.h"

#include <gmock/gmock.h>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "config/sample_config.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

class LoadConfig : public testing::Test {
 protected:
  void load(const std::string& text) {
    write_file_atomic(path_, text);
    load_config_file(table_, path_, provenance_);
  }
  // The error's text from the file's name on: "c.json:2: ...".
  std::string load_error(const std::string& text, ErrorKind kind = ErrorKind::kUsage) {
    const std::string error = error_text_of(kind, [&] { load(text); });
    EXPECT_EQ(error.find(path_.string()), 0u) << error;
    return error.substr(error.find("c.json"));
  }
  std::string text_error(const std::string& key, const std::vector<std::string>& values) {
    return error_text_of(ErrorKind::kUsage, [&] { from_text(key, values); });
  }
  void from_text(const std::string& key, const std::vector<std::string>& values) {
    set_from_text(table_, key, values, "command line", provenance_);
  }

  TempFolder folder_;
  fs::path path_ = folder_ / "c.json";
  SampleConfig config_;
  OptionTable table_ = bind_options(config_);
  Provenance provenance_;
};

TEST_F(LoadConfig, NullOnTheCommandLineIsNoneExceptWhereTextIsExpected) {
  from_text("seed", {"null"});
  EXPECT_FALSE(config_.seed.has_value());
  from_text("system", {"null"});
  EXPECT_EQ(config_.system, "null");
}

TEST_F(LoadConfig, SectionsDotsAndComments) {
  load(R"({
  // a comment
  "model": "dir",
  "train": {
    "lora": {"rank": 16},
    /* another */ "shuffle": false,
    "lora.dropout": 0
  },
  "train.learning_rate": 3e-4,
  "seed": null, "system": "你好"
})");
  EXPECT_EQ(config_.model, "dir");
  EXPECT_EQ(config_.train.lora.rank, 16);
  EXPECT_EQ(config_.train.lora.dropout, 0.0);
  EXPECT_FALSE(config_.train.shuffle);
  EXPECT_EQ(config_.train.learning_rate, 3e-4);
  EXPECT_EQ(config_.seed, std::nullopt);
  EXPECT_EQ(config_.system, "你好");
  EXPECT_EQ(config_.dtype, "auto");
  const std::string file = path_.string();
  EXPECT_EQ(provenance_, (Provenance{{"model", file + ":3"},
                                     {"train.lora.rank", file + ":5"},
                                     {"train.shuffle", file + ":6"},
                                     {"train.lora.dropout", file + ":7"},
                                     {"train.learning_rate", file + ":9"},
                                     {"seed", file + ":10"},
                                     {"system", file + ":10"}}));
}

TEST_F(LoadConfig, UnknownKeysNameLineAndNearestKey) {
  EXPECT_EQ(load_error("{\n\"modle\": \"x\"}"),
            "c.json:2: unknown key \"modle\"; did you mean \"model\"?");
  EXPECT_EQ(load_error("{\"train\": {\n\"lora\": {\n\"rnak\": 8}}}"),
            "c.json:3: unknown key \"train.lora.rnak\"; did you mean \"train.lora.rank\"?");
  EXPECT_EQ(load_error("{\"rank\": 8}"),
            "c.json:1: unknown key \"rank\"; did you mean \"train.lora.rank\"?");
  EXPECT_EQ(load_error("{\"trian\": {\"shuffle\": true}}"),
            "c.json:1: unknown key \"trian\"; did you mean \"train\"?");
  EXPECT_EQ(load_error("{\"train\": {\"lr\": 1}}"),
            "c.json:1: unknown key \"train.lr\"; did you mean \"train.learning_rate\"?");
  EXPECT_EQ(load_error("{\"steps\": 1}"),
            "c.json:1: unknown key \"steps\"; did you mean \"max_steps\"?");
  EXPECT_EQ(load_error("{\"train\": {\"lora\": {\"r\": 1}}}"),
            "c.json:1: unknown key \"train.lora.r\"; did you mean \"train.lora.rank\"?");
  EXPECT_EQ(load_error("{\"train\": {\"lora\": {\"modules\": []}}}"),
            "c.json:1: unknown key \"train.lora.modules\"; did you mean "
            "\"train.lora.target_modules\"?");
  EXPECT_EQ(load_error("{\"s\": 1}"),
            "c.json:1: unknown key \"s\"; did you mean \"system\" or "
            "\"seed\" or \"train.shuffle\"?");
  EXPECT_EQ(load_error("{\"train\": {\"xxxx\": 1}}"), "c.json:1: unknown key \"train.xxxx\"");
  EXPECT_EQ(load_error("{\"zzzzzz\": 1}"), "c.json:1: unknown key \"zzzzzz\"");
}

TEST_F(LoadConfig, WrongTypesAndRangesNameTheLine) {
  EXPECT_EQ(load_error("{\n\n\"max_steps\": \"many\"}"),
            "c.json:3: max_steps is \"many\", expected an integer");
  EXPECT_EQ(load_error("{\"train\":\n{\"lora\": {\"rank\": 0}}}"),
            "c.json:2: train.lora.rank is 0, expected 1 to 4096");
  EXPECT_EQ(load_error("{\"train\": 3}"),
            "c.json:1: train is 3, expected a section { ... } of keys");
  EXPECT_EQ(load_error("{\"model\": {\"path\": 1}}"),
            "c.json:1: model is {\"path\":1}, expected a text");
  EXPECT_EQ(load_error("[]"), "c.json: expected one JSON object { ... }");
}

TEST_F(LoadConfig, AKeySpeltInTwoWaysIsThereTwice) {
  EXPECT_EQ(load_error("{\"max_steps\": 1,\n\"max-steps\": 2}"),
            "c.json:2: the key \"max_steps\" is there twice");
  EXPECT_EQ(load_error("{\"train\": {\"lora\": {\"rank\": 1}},\n\"train.lora.rank\": 2}"),
            "c.json:2: the key \"train.lora.rank\" is there twice");
  EXPECT_THAT(load_error("{\"max_steps\": 1,\n\"max_steps\": 2}"),
              HasSubstr("c.json:2:1: the key \"max_steps\" is there twice"));
}

TEST_F(LoadConfig, BrokenFilesAreNamed) {
  EXPECT_THAT(load_error("{\n\"model\": }"), HasSubstr("c.json:2:10: not valid JSON"));
  EXPECT_THAT(load_error(std::string(100000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(error_text_of(ErrorKind::kIo,
                            [&] { load_config_file(table_, folder_ / "none", provenance_); }),
              HasSubstr("none: the file can't be opened"));
}

TEST_F(LoadConfig, ScalarsFromText) {
  from_text("max-steps", {"12"});
  from_text("train.learning_rate", {"1e-5"});
  from_text("train.shuffle", {"false"});
  from_text("seed", {"null"});
  from_text("cut", {"-3"});
  from_text("fast", {"true"});
  from_text("model", {"null"});
  from_text("system", {"a,b [x]"});
  EXPECT_EQ(config_.max_steps, 12);
  EXPECT_EQ(config_.train.learning_rate, 1e-5);
  EXPECT_FALSE(config_.train.shuffle);
  EXPECT_EQ(config_.seed, std::nullopt);
  EXPECT_EQ(config_.cut, -3.0);
  EXPECT_EQ(config_.fast, true);
  EXPECT_EQ(config_.model, "null");  // a text that can't be none
  EXPECT_EQ(config_.system, "a,b [x]");
  EXPECT_EQ(provenance_["max_steps"], "command line");
}

TEST_F(LoadConfig, ListsFromText) {
  from_text("train_files", {"a,b", "c"});
  EXPECT_THAT(config_.train_files, ElementsAre("a", "b", "c"));
  from_text("train_files", {R"(["x,y", "z"])", "w"});
  EXPECT_THAT(config_.train_files, ElementsAre("x,y", "z", "w"));
  from_text("stop_ids", {"1,2", "3"});
  EXPECT_THAT(config_.stop_ids, ElementsAre(1, 2, 3));
  for (const char* none : {"", "[]"}) {
    config_.stop_ids = {7};
    from_text("stop_ids", {none});
    EXPECT_THAT(config_.stop_ids, ElementsAre()) << none;
  }
}

TEST_F(LoadConfig, BadTextIsAnError) {
  EXPECT_EQ(text_error("max_steps", {"12x"}),
            "command line: max_steps is \"12x\", expected an integer");
  text_error("max_steps", {""});
  EXPECT_THAT(text_error("train_files", {"[\"a"}), HasSubstr("not valid JSON"));
  EXPECT_THAT(text_error("train_files", {"{"}), HasSubstr("not valid JSON"));
  text_error("max_steps", {"99999999999999999999"});
  text_error("max_steps", {"1.5"});
  text_error("train.learning_rate", {"nan"});
  text_error("train.learning_rate", {"inf"});
  EXPECT_EQ(text_error("train.shuffle", {"yes"}),
            "command line: train.shuffle is \"yes\", expected true or false");
  EXPECT_EQ(text_error("stop_ids", {"1,x"}),
            "command line: stop_ids is [1,\"x\"], expected a list of integers");
  EXPECT_THAT(text_error("train_files", {"a,,b"}), HasSubstr("expected no empty element; write"));
  EXPECT_THAT(text_error("model", {"a", "b"}), HasSubstr("model takes one value, got 2"));
  EXPECT_THAT(text_error("model", {"\xff"}), HasSubstr("not valid UTF-8"));
  EXPECT_EQ(text_error("max_stpes", {"1"}),
            "command line: unknown key \"max_stpes\"; did you mean \"max_steps\"?");
}

TEST_F(LoadConfig, WhatIsWrittenLoadsAsTheSame) {
  config_.model = "目录 \"x\"";
  config_.train_files = {"a,b", ""};
  config_.seed = std::numeric_limits<int64_t>::max();
  config_.system = "一\n二";
  config_.fast = false;
  config_.train.learning_rate = 0.1 + 0.2;
  config_.train.lora.targets = {};
  const ordered_json written = to_json(table_);
  write_json_file(path_, written);

  SampleConfig loaded;
  const OptionTable table = bind_options(loaded);
  load_config_file(table, path_, provenance_);
  EXPECT_EQ(to_json(table), written);
  EXPECT_EQ(loaded.train.learning_rate, 0.1 + 0.2);
  EXPECT_EQ(loaded.seed, std::numeric_limits<int64_t>::max());
  EXPECT_THAT(loaded.train_files, ElementsAre("a,b", ""));
  EXPECT_EQ(provenance_.size(), table.size()) << "every key is written";
}

TEST_F(LoadConfig, JsonKeepsTheOrderOfDeclaration) {
  EXPECT_EQ(to_json(table_)["train"].dump(),
            R"({"lora":{"rank":8,"dropout":0.05,"target_modules":["q_proj","v_proj"]},)"
            R"("learning_rate":0.0001,"shuffle":true})");
  EXPECT_EQ(to_json(table_).begin().key(), "model");
}

}  // namespace
}  // namespace llama2zh
