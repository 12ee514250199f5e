// evaluate perplexity and evaluate compare, as a user types them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

class CompareVerbTest : public VerbTest {
 protected:
  static void SetUpTestSuite() {
    make_folder("compare");
    const std::string source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    fs::copy_file(source + "/LICENSE", folder_ / "en.txt");
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "400", "--output", "en.model"});
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "350", "--output", "small.model"});
    for (const std::string name : {"en", "small"}) {
      run({"init-model", "--tokenizer", name + ".model", "--hidden-size", "32",
           "--intermediate-size", "48", "--num-hidden-layers", "2", "--num-attention-heads", "4",
           "--max-position-embeddings", "128", "--initializer-range", "0.3", "--output", name});
    }
    run({"quantize", "--model", "en", "--bits", "4", "--output", "en-int4"});
  }
};

TEST_F(CompareVerbTest, AModelAndItsQuantizedForm) {
  run({"evaluate", "compare", "en", "en-int4", "--file", "en.txt", "--characters", "2000", "--raw",
       "--prompt", "The <b>licence</b> | `and`", "--window", "64", "--output", "report"});
  const json results = read_json_file(folder_ / "report/results.json");
  const json& file = results["files"][0];
  EXPECT_EQ(file["a"]["characters"], 2000);
  EXPECT_NE(file["a"]["perplexity"], file["b"]["perplexity"]);
  EXPECT_GT(file["distance"]["kl_divergence"].get<double>(), 0);
  EXPECT_LT(file["distance"]["top1_agreement"].get<double>(), 1);
  EXPECT_LT(results["models"][1]["bytes"], results["models"][0]["bytes"]);
  EXPECT_GT(results["models"][1]["answer_tok_s"].get<double>(), 0);
  const std::string html = read_file(folder_ / "report/report.html");
  EXPECT_NE(html.find("The &lt;b&gt;licence&lt;/b&gt;"), std::string::npos);
  EXPECT_EQ(html.find("<b>licence"), std::string::npos);
  const std::string page = read_file(folder_ / "report/report.md");
  for (const std::string plot : {"bits", "perplexity", "kl", "size", "speed"}) {
    const std::string svg = read_file(folder_ / "report" / (plot + ".svg"));
    EXPECT_NE(html.find(svg.substr(svg.find("<svg"))), std::string::npos) << plot;
    EXPECT_NE(page.find("](" + plot + ".svg)"), std::string::npos) << plot;
  }
  EXPECT_GT(file["distance"]["nll_difference_standard_error"].get<double>(), 0);
  EXPECT_NE(page.find("&lt;b>licence&lt;/b> \\| \\`and\\`"), std::string::npos) << page;
}

TEST_F(CompareVerbTest, AModelAndItselfAreTheSame) {
  const json results = json::parse(run({"evaluate", "compare", "en", "en", "--file", "en.txt",
                                        "--characters", "1000", "--no-speed", "--json"}));
  const json& file = results["files"][0];
  EXPECT_EQ(file["a"], file["b"]);
  EXPECT_EQ(file["distance"]["kl_divergence"], 0);
  EXPECT_EQ(file["distance"]["top1_agreement"], 1);
  EXPECT_TRUE(results["models"][0]["answer_tok_s"].is_null());
}

TEST_F(CompareVerbTest, EachSideHasItsOwnParts) {
  run({"init-model", "--tokenizer", "en.model", "--hidden-size", "32", "--intermediate-size", "48",
       "--num-hidden-layers", "2", "--num-attention-heads", "4", "--max-position-embeddings", "48",
       "--initializer-range", "0.3", "--output", "bare"});
  std::filesystem::remove(folder_ / "bare/tokenizer.model");
  run({"pretrain", "--model.path", "en", "--data.train_files", "en.txt", "--data.block_size", "32",
       "--train.max_steps", "1", "--train.learning_rate", "1e-2", "--output_dir", "lora"});
  const std::vector<std::string> words = {"evaluate",   "compare", "en",           "en",
                                          "--file",     "en.txt",  "--characters", "500",
                                          "--no-speed", "--json",  "--adapter-a",  "lora"};
  const json adapted = json::parse(run(words));
  EXPECT_NE(adapted["models"][0]["model"].get<std::string>().find("lora"), std::string::npos);
  EXPECT_GT(adapted["files"][0]["distance"]["kl_divergence"].get<double>(), 0);
  // One tokenizer for both, two templates, and the windows that both contexts hold.
  const json named =
      json::parse(run({"evaluate", "compare", "en", "bare", "--tokenizer", "en.model", "--template",
                       "plain", "zephyr", "--file", "en.txt", "--characters", "500", "--prompt",
                       "Hi", "--max-new-tokens", "2", "--no-speed", "--json"}));
  EXPECT_EQ(named["settings"]["window"], 48);
  EXPECT_NE(named["note"].get<std::string>().find("Windows of 48 tokens"), std::string::npos);
  EXPECT_FALSE(named["files"][0]["distance"].is_null());
}

TEST_F(CompareVerbTest, OtherVocabulariesHaveNoDistance) {
  const json results = json::parse(run({"evaluate", "compare", "en", "small", "--file", "en.txt",
                                        "--characters", "1000", "--no-speed", "--json"}));
  EXPECT_TRUE(results["files"][0]["distance"].is_null());
  EXPECT_NE(results["files"][0]["a"]["tokens"], results["files"][0]["b"]["tokens"]);
}

TEST_F(CompareVerbTest, WhatIsRefused) {
  expect_failure({"evaluate", "compare", "en"}, 2, {"two models"});
  expect_failure({"evaluate", "compare", "en", "en", "--prompt", "x"}, 2, {"--raw"});
  std::filesystem::create_directories(folder_ / "adapter");
  expect_failure(
      {"evaluate", "perplexity", "--model", "en", "--file", "en.txt", "--adapter", "mine=adapter"},
      2, {"mine=adapter", "--adapter adapter"});
  expect_failure({"evaluate", "perplexity", "--model", "en", "--file", "en.txt", "--protocol",
                  "llama.cpp", "--stride", "8"},
                 2, {"stride", "llama.cpp"});
}

TEST_F(CompareVerbTest, PerplexityOfAStoreIsThatOfItsText) {
  run({"prepare", "--data.train_files", "en.txt", "--model.tokenizer", "en.model", "--output",
       "store"});
  const auto measured = [](const std::string& file) {
    return json::parse(run({"evaluate", "perplexity", "--model", "en", "--dtype", "float32",
                            "--window", "64", "--file", file, "--json"}));
  };
  const json store = measured("store"), text = measured("en.txt");
  // The store's row ends with EOS, which is scored too.
  EXPECT_EQ(store["tokens"].get<int64_t>(), text["tokens"].get<int64_t>() + 1);
  EXPECT_EQ(store["characters"], text["characters"]);
  EXPECT_EQ(store["special_tokens"], 1);
  EXPECT_NEAR(store["nll_per_token"].get<double>(), text["nll_per_token"].get<double>(), 0.01);
  EXPECT_NEAR(store["bits_per_character"].get<double>(), text["bits_per_character"].get<double>(),
              1e-6);
  EXPECT_NEAR(
      text["bits_per_byte_standard_error"].get<double>() / text["bits_per_byte"].get<double>(),
      text["nll_standard_error"].get<double>() / text["nll_per_token"].get<double>(), 1e-9);
  expect_failure({"evaluate", "compare", "en", "en", "--file", "store"}, 2,
                 {"store", "evaluate perplexity"});
  expect_failure({"evaluate", "perplexity", "--model", "small", "--file", "store"}, 1,
                 {"store", "another tokenizer"});
}

}  // namespace
}  // namespace llama2zh
