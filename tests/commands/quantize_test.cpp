// quantize and what other verbs do with its folders: chains a user would type.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

class QuantizeVerbTest : public VerbTest {
 protected:
  static void SetUpTestSuite() {
    make_folder("quantize");
    const std::string source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    fs::copy_file(source + "/LICENSE", folder_ / "en.txt");
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "400", "--output", "en.model"});
    run({"init-model", "--tokenizer", "en.model", "--hidden-size", "32", "--intermediate-size",
         "48", "--num-hidden-layers", "2", "--num-attention-heads", "4", "--num-key-value-heads",
         "2", "--max-position-embeddings", "128", "--initializer-range", "0.3", "--output",
         "model"});
  }
  static json answer(const std::string& model) {
    return json::parse(
        run({"generate", "--model", model, "--prompt", "The licence", "--raw", "--temperature", "0",
             "--max-new-tokens", "24", "--ignore-eos", "--dtype", "float32", "--json"}))["ids"];
  }
};

TEST_F(QuantizeVerbTest, AwqIsTheSameEachTimeAndGoesOnToGptqsLayout) {
  const std::vector<std::string> quantize = {
      "quantize",      "--model", "model",     "--method",      "awq",   "--bits", "4",
      "--calibration", "en.txt",  "--lm-head", "--activations", "float", "--json", "--output"};
  std::vector<std::string> again = quantize;
  again.emplace_back("awq-again");
  std::vector<std::string> first = quantize;
  first.emplace_back("awq");
  const json report = json::parse(run(first));
  EXPECT_EQ(report["awq_alphas"].size(), 9u);
  EXPECT_EQ(json::parse(run(again))["awq_alphas"], report["awq_alphas"]);
  EXPECT_EQ(read_file(folder_ / "awq/model.safetensors"),
            read_file(folder_ / "awq-again/model.safetensors"));
  run({"convert", "--input", "awq", "--output", "gptq", "--to", "gptq"});
  const json config = read_json_file(folder_ / "gptq/config.json");
  EXPECT_EQ(config["quantization_config"]["quant_method"], "gptq");
  EXPECT_EQ(config["quantization_config"]["sym"], true);
  run({"convert", "--input", "gptq", "--output", "plain", "--dtype", "float32"});
  EXPECT_FALSE(read_json_file(folder_ / "plain/config.json").contains("quantization_config"));
  EXPECT_EQ(answer("awq"), answer("gptq"));
  EXPECT_EQ(answer("gptq"), answer("plain"));
  run({"convert", "--input", "gptq", "--output", "packed.gguf", "--to", "gguf"});
  run({"convert", "--input", "packed.gguf", "--output", "from-gguf", "--dtype", "float32"});
  EXPECT_EQ(answer("from-gguf"), answer("plain"));
}

TEST_F(QuantizeVerbTest, WhatIsRefused) {
  expect_failure({"quantize", "--model", "model", "--method", "awq", "--output", "x"}, 2,
                 {"--method awq", "--calibration"});
  expect_failure({"quantize", "--model", "model", "--calibration", "en.txt", "--output", "x"}, 2,
                 {"--calibration", "rtn"});
  expect_failure({"convert", "--input", "model", "--output", "x", "--to", "gptq"}, 2,
                 {"not quantized", "llama2zh quantize"});
  run({"quantize", "--model", "model", "--bits", "8", "--output", "rows"});
  expect_failure({"convert", "--input", "rows", "--output", "x", "--to", "gptq"}, 2,
                 {"q_proj", "float32", "--group-size"});
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

// stories260K at int4 in groups of 32, on text that it wrote: awq and gptq lose less than rounding,
// int8 almost nothing.
TEST_F(QuantizeVerbTest, Stories260KLosesLessByAwqAndGptq) {
  const fs::path data = testing::shared_data();
  const std::string model = data / "weights/stories260K_hf";
  if (!fs::exists(model)) GTEST_SKIP() << "no test data: " << model;
  const std::string tokenizer = data / "tokenizers/tok512_from_bin.model";
  const json texts =
      json::parse(run({"generate", "--model", model, "--tokenizer", tokenizer, "--prompt",
                       "Once upon a time", "--raw", "--temperature", "1", "--seed", "7",
                       "--num-return-sequences", "32", "--max-new-tokens", "300", "--json"}));
  std::ofstream calibration(folder_ / "calibration.jsonl"), held_out(folder_ / "held_out.jsonl");
  size_t place = 0;
  for (const json& text : texts["texts"])
    (place++ % 2 == 0 ? calibration : held_out) << json{{"text", text}}.dump() << "\n";
  calibration.close();
  held_out.close();
  ASSERT_EQ(place, 32u);
  std::map<std::string, double> change;
  for (const std::string method : {"rtn", "awq", "gptq", "int8"}) {
    std::vector<std::string> args = {
        "quantize", "--model",           model,        "--tokenizer",    tokenizer,
        "--output", "stories-" + method, "--evaluate", "held_out.jsonl", "--json"};
    const bool int8 = method == "int8";
    const std::vector<std::string> more = {"--bits", int8 ? "8" : "4", "--method",
                                           int8 ? "rtn" : method};
    args.insert(args.end(), more.begin(), more.end());
    if (method == "awq" || method == "gptq")
      args.insert(args.end(), {"--calibration", "calibration.jsonl"});
    const json row = json::parse(run(args))["evaluation"][0];
    change[method] = row["perplexity"].get<double>() / row["source_perplexity"].get<double>() - 1;
    std::printf("%s: %+.2f %%\n", method.c_str(), 100 * change[method]);
  }
  EXPECT_LT(change["awq"], change["rtn"]);
  EXPECT_LT(change["gptq"], change["rtn"]);
  EXPECT_LT(std::abs(change["int8"]), 0.003);  // so little text tells no more
}

}  // namespace
}  // namespace llama2zh
