// convert to .gguf and back: the weights' bits, the tokenizer, the answers; and what is refused.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

class GgufVerbTest : public VerbTest {
 protected:
  // "model": random, of a tokenizer made here, with a chat template; its rows are no multiple of 32
  // in the MLP's down projection.
  static void SetUpTestSuite() {
    make_folder("gguf");
    const std::string source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    fs::copy_file(source + "/LICENSE", folder_ / "en.txt");
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "400", "--output", "en.model"});
    run({"init-model", "--tokenizer", "en.model", "--hidden-size", "32", "--intermediate-size",
         "40", "--num-hidden-layers", "2", "--num-attention-heads", "4", "--num-key-value-heads",
         "2", "--max-position-embeddings", "128", "--initializer-range", "0.3", "--output",
         "model"});
    ordered_json config = read_ordered_json_file(folder_ / "model/tokenizer_config.json");
    config["chat_template"] = kTemplate;
    write_json_file(folder_ / "model/tokenizer_config.json", config);
  }

  static void to_gguf(const std::string& model, const std::string& type, const std::string& output,
                      const std::string& tokenizer = "") {
    run({"convert", "--input", model, "--to", "gguf", "--gguf_type", type, "--output", output,
         "--tokenizer", tokenizer});
  }
  static std::string bytes(const std::string& name) { return read_file(folder_ / name); }
  static json answer(const std::string& model) {
    return json::parse(
        run({"generate", "--model", model, "--prompt", "The licence", "--raw", "--temperature", "0",
             "--max-new-tokens", "24", "--ignore-eos", "--dtype", "float32", "--json"}))["ids"];
  }

  static constexpr const char* kTemplate = "{{ bos_token }}{{ messages[0]['content'] }}";
};

TEST_F(GgufVerbTest, ThereAndBackKeepsEveryBit) {
  to_gguf("model", "auto", "a.gguf");
  run({"convert", "--input", "a.gguf", "--output", "back"});
  EXPECT_EQ(bytes("back/model.safetensors"), bytes("model/model.safetensors"));
  const json tokenizer = read_json_file(folder_ / "back/tokenizer_config.json");
  EXPECT_EQ(tokenizer["chat_template"], kTemplate);
  EXPECT_EQ(tokenizer["add_bos_token"], true);
  const json was = read_json_file(folder_ / "model/config.json");
  const json is = read_json_file(folder_ / "back/config.json");
  for (const auto& [key, value] : was.items()) {
    if (key == "initializer_range") continue;  // GGUF has no such key
    EXPECT_EQ(is[key], value) << key;
  }
  const std::vector<std::string> text = {"tokenize", "--text", "Permission is  granted: 你好\t!",
                                         "--json", "--model"};
  std::vector<std::string> before = text, after = text;
  before.emplace_back("model");
  after.emplace_back("back");
  EXPECT_EQ(run(before), run(after));
  EXPECT_EQ(answer("model"), answer("back"));
}

TEST_F(GgufVerbTest, NarrowerTypesRoundOnce) {
  for (const auto& [type, dtype] : {std::pair("f16", "float16"), std::pair("bf16", "bfloat16")}) {
    const std::string name = type;
    to_gguf("model", name, name + ".gguf");
    run({"convert", "--input", name + ".gguf", "--output", name + "-gguf"});
    run({"convert", "--input", "model", "--output", name + "-hf", "--dtype", dtype});
    EXPECT_EQ(bytes(name + "-gguf/model.safetensors"), bytes(name + "-hf/model.safetensors"));
  }
  run({"convert", "--input", "f16.gguf", "--output", "meta", "--to", "meta"});
  EXPECT_TRUE(fs::exists(folder_ / "meta/tokenizer.model"));
}

TEST_F(GgufVerbTest, QuantizedFilesComeBackAsFloat16) {
  for (const std::string type : {"q8_0", "q4_0"}) {
    to_gguf("model", type, type + ".gguf");
    run({"convert", "--input", type + ".gguf", "--output", type});
    EXPECT_EQ(read_json_file(folder_ / type / "config.json")["dtype"], "float16");
    EXPECT_LT(fs::file_size(folder_ / (type + ".gguf")),
              fs::file_size(folder_ / "model/model.safetensors"));
  }
}

TEST_F(GgufVerbTest, AnswersWithTheTokenizerOfTheFile) {
  to_gguf("model", "f32", "own.gguf");
  EXPECT_EQ(answer("own.gguf"), answer("model"));
  run({"convert", "--input", "own.gguf", "--to", "gguf", "--output", "twice.gguf"});
  EXPECT_EQ(answer("twice.gguf"), answer("model"));
  const json header = json::parse(run({"inspect", "own.gguf", "--json"}));
  EXPECT_EQ(header["metadata"]["tokenizer.chat_template"], kTemplate);
  EXPECT_EQ(header["tokenizer"]["type"], "bpe");
}

TEST_F(GgufVerbTest, WhatIsRefused) {
  to_gguf("model", "f32", "kept.gguf");
  const std::string kept = bytes("kept.gguf");
  const auto convert = [](const std::string& input, const std::string& output) {
    return std::vector<std::string>{"convert", "--input",  input, "--to",
                                    "gguf",    "--output", output};
  };
  expect_failure(convert("model", "kept.gguf"), 2, {"kept.gguf exists", "--overwrite"});
  expect_failure(convert("model", "folder"), 2, {"--output", ".gguf"});
  expect_failure(convert("model", "none/a.gguf"), 2, {"none", "no folder"});
  expect_failure(convert("kept.gguf", "kept.gguf"), 2, {"--output", "--input"});
  EXPECT_EQ(bytes("kept.gguf"), kept);
  write_file_atomic(folder_ / "cut.gguf", kept.substr(0, kept.size() - 1000));
  expect_failure({"convert", "--input", "cut.gguf", "--output", "cut"}, 1,
                 {"cut.gguf", "truncated"});
  EXPECT_FALSE(fs::exists(folder_ / "cut"));
}

TEST_F(GgufVerbTest, Stories260KKeepsItsGreedyAnswer) {
  const fs::path data = testing::shared_data();
  const fs::path model = data / "weights/stories260K_hf";
  if (!fs::exists(model)) GTEST_SKIP() << "no test data: " << model;
  const std::string tokenizer = data / "tokenizers/tok512_from_bin.model";
  for (const std::string type : {"f32", "q8_0"}) {
    to_gguf(model, type, "stories-" + type + ".gguf", tokenizer);
    run({"convert", "--input", "stories-" + type + ".gguf", "--output", "stories-" + type});
  }
  run({"convert", "--input", model, "--output", "stories", "--dtype", "float32", "--tokenizer",
       tokenizer});
  EXPECT_EQ(bytes("stories-f32/model.safetensors"), bytes("stories/model.safetensors"));
  EXPECT_EQ(answer("stories-f32"), answer("stories"));
}

}  // namespace
}  // namespace llama2zh
