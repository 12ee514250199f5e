// The whole chain through the program, on the project's own sentences: tokenizers, random model, pretraining in full, extended vocabulary, LoRA pretraining,
// fine-tuning, merge, answers. Each step takes what the one before wrote.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/lines.h"

namespace llama2zh {
namespace {

class ChainTest : public VerbTest {
 protected:
  static void SetUpTestSuite() {
    make_folder("chain");
    source_ = std::getenv("LLAMA2ZH_SOURCE_DIR");
    write_texts();
    build_chain();
  }

  static std::string source_;

 private:
  static void write_texts() {
    std::ofstream zh(folder_ / "zh.txt");
    std::ofstream en(folder_ / "en.txt");
    LineReader reader(source_ + "/assets/sft_zh.jsonl");
    std::string line;
    while (reader.next(line)) {
      const json row = json::parse(line);
      for (const auto& turn : row["conversations"]) zh << turn["value"].get<std::string>() << "\n";
    }
    LineReader readme(source_ + "/LICENSE");
    while (readme.next(line)) en << line << "\n";
  }

  static void build_chain() {
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "500", "--output", "en.model"});
    run({"train-tokenizer", "--input", "zh.txt", "--vocab-size", "1500", "--model-type", "unigram",
         "--output", "zh.model"});
    run({"init-model", "--tokenizer", "en.model", "--hidden-size", "32", "--intermediate-size",
         "64", "--num-hidden-layers", "2", "--num-attention-heads", "4", "--num-key-value-heads",
         "2", "--max-position-embeddings", "256", "--output", "random"});
    run({"pretrain", "--method", "full", "--model.path", "random", "--data.train_files", "en.txt",
         "--data.block_size", "64", "--train.micro_batch_size", "4", "--train.max_steps", "12",
         "--train.learning_rate", "5e-3", "--output_dir", "base"});
    run({"extend-vocab", "--tokenizer", "base", "--extension", "zh.model", "--model", "base",
         "--output", "resized", "--report-text", "zh.txt", "en.txt"});
    run({"pretrain", "--model.path", "resized", "--lora.rank", "4", "--data.train_files", "zh.txt",
         "--data.block_size", "64", "--train.max_steps", "30", "--train.learning_rate", "1e-2",
         "--output_dir", "pretrained"});
    run({"sft", "--data.template", "vllm", "--model.path", "resized", "--model.peft_path",
         "pretrained", "--data.train_files", source_ + "/assets/sft_zh.jsonl", "--data.block_size",
         "128", "--train.max_steps", "10", "--train.learning_rate", "5e-3", "--output_dir",
         "tuned"});
    run({"merge", "--base", "resized", "--adapter", "tuned", "--output", "chat"});
  }
};
std::string ChainTest::source_;

TEST_F(ChainTest, ContinuedPretrainingTeachesChinese) {
  const auto bits = [&](std::vector<std::string> model) {
    model.insert(model.begin(),
                 {"evaluate", "perplexity", "--file", "zh.txt", "--json", "--model"});
    return json::parse(run(model))["bits_per_character"].get<double>();
  };
  EXPECT_LT(bits({"resized", "--adapter", "pretrained"}), 0.9 * bits({"resized"}));
}

TEST_F(ChainTest, VocabularyGrowsByWhatIsNew) {
  const json report =
      json::parse(run({"extend-vocab", "--tokenizer", "en.model", "--extension", "zh.model",
                       "--output", "tokenizer-only", "--report-text", "zh.txt", "--json"}));
  EXPECT_EQ(report["merged"], report["base"].get<int64_t>() + report["added"].get<int64_t>());
  EXPECT_EQ(report["extension"],
            report["added"].get<int64_t>() + report["duplicates"].get<int64_t>());
  EXPECT_GT(report["texts"][0]["characters_per_token_after"].get<double>(),
            report["texts"][0]["characters_per_token_before"].get<double>());
  EXPECT_EQ(json::parse(run({"inspect", "chat", "--json"}))["vocab_size"], report["merged"]);
}

// Samples on the way change nothing of what is trained, and the last one is what the result says.
TEST_F(ChainTest, SamplesOnTheWayAndAMergedResult) {
  const auto train = [&](const std::string& output, const std::vector<std::string>& more) {
    std::vector<std::string> args = {"sft",
                                     "--data.template",
                                     "vllm",
                                     "--model.path",
                                     "resized",
                                     "--model.peft_path",
                                     "pretrained",
                                     "--lora.dropout",
                                     "0.1",
                                     "--data.train_files",
                                     source_ + "/assets/sft_zh.jsonl",
                                     "--data.block_size",
                                     "128",
                                     "--train.max_steps",
                                     "4",
                                     "--train.learning_rate",
                                     "5e-3",
                                     "--model.dtype",
                                     "float32",
                                     "--train.save_dtype",
                                     "float32",
                                     "--output_dir",
                                     output};
    args.insert(args.end(), more.begin(), more.end());
    run(args);
  };
  train("plain", {});
  train("sampled", {"--train.sample_prompts", "你是谁？", "--train.sample_steps", "2",
                    "--train.sample_max_new_tokens", "12", "--train.merge_final"});
  EXPECT_EQ(read_file(folder_ / "plain/adapter_model.safetensors"),
            read_file(folder_ / "sampled/adapter_model.safetensors"));
  LineReader samples((folder_ / "sampled/samples.jsonl").string());
  std::vector<json> lines;
  std::string line;
  while (samples.next(line)) lines.push_back(json::parse(line));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["step"], 2);
  EXPECT_EQ(lines[1]["prompt"], "你是谁？");
  const json answer = json::parse(
      run({"generate", "--model", "sampled/merged", "--prompt", "你是谁？", "--temperature", "0",
           "--max-new-tokens", "12", "--dtype", "float32", "--json"}));
  EXPECT_EQ(answer["text"], lines[1]["text"]);
  expect_failure({"sft", "--model.path", "resized", "--method", "full", "--data.train_files",
                  source_ + "/assets/sft_zh.jsonl", "--train.merge_final", "--output_dir", "none"},
                 2, {"train.merge_final"});
}

TEST_F(ChainTest, MergedAnswersAsBaseWithAdapter) {
  const std::vector<std::string> question = {"--prompt", "你是谁？",         "--temperature",
                                             "0",        "--max-new-tokens", "12",
                                             "--dtype",  "float32",          "--json"};
  std::vector<std::string> merged = {"generate", "--model", "chat"};
  std::vector<std::string> unmerged = {"generate", "--model", "resized", "--adapter", "tuned"};
  merged.insert(merged.end(), question.begin(), question.end());
  unmerged.insert(unmerged.end(), question.begin(), question.end());
  const json a = json::parse(run(merged));
  const json b = json::parse(run(unmerged));
  EXPECT_EQ(a["ids"], b["ids"]);
  EXPECT_GT(a["prompt_tokens"].get<int>(), 5);
  EXPECT_TRUE(a["finish_reason"] == "stop" || a["finish_reason"] == "length");
}

TEST_F(ChainTest, ConvertsToMetaAndBack) {
  run({"convert", "--input", "chat", "--output", "meta", "--to", "meta"});
  run({"convert", "--input", "meta", "--output", "hf-again", "--to", "hf"});
  EXPECT_EQ(run({"evaluate", "perplexity", "--model", "chat", "--file", "en.txt", "--window", "128",
                 "--json"}),
            run({"evaluate", "perplexity", "--model", "hf-again", "--file", "en.txt", "--window",
                 "128", "--json"}));
}

TEST_F(ChainTest, TokenizePrintsOneObjectALine) {
  std::istringstream lines(run({"tokenize", "--model", "chat", "--file", "zh.txt", "--json"}));
  std::string line;
  int64_t count = 0;
  while (std::getline(lines, line)) {
    const json object = json::parse(line);
    EXPECT_EQ(object["ids"].size(), object["pieces"].size());
    ++count;
  }
  EXPECT_GT(count, 400);
}

TEST_F(ChainTest, TokenizeTakesTheWordNull) {
  const json object = json::parse(run({"tokenize", "--model", "chat", "--text", "null", "--json"}));
  std::string text;
  for (const auto& piece : object["pieces"]) text += piece.get<std::string>();
  EXPECT_EQ(text, "▁null");
}

// The text that a row's supervised tokens stand for is the answer alone.
TEST_F(ChainTest, DataShowMarksWhatIsLearnt) {
  std::ofstream(folder_ / "two.jsonl") << R"({"query": "你是谁？", "response": "我是模型。"})"
                                       << "\n"
                                       << R"({"text": "一段文字。"})"
                                       << "\n";
  const std::vector<std::string> show = {"data",
                                         "show",
                                         "--model.path",
                                         "chat",
                                         "--data.train_files",
                                         "two.jsonl",
                                         "--data.template",
                                         "vllm",
                                         "--n",
                                         "2"};
  std::vector<std::string> as_json = show;
  as_json.push_back("--json");
  std::istringstream lines(run(as_json));
  std::vector<std::string> learnt;
  std::string line;
  while (std::getline(lines, line)) {
    const json row = json::parse(line);
    ASSERT_EQ(row["ids"].size(), row["supervised"].size());
    ASSERT_EQ(row["ids"].size(), row["pieces"].size());
    learnt.emplace_back();
    for (size_t i = 0; i < row["ids"].size(); ++i)
      if (row["supervised"][i] == 1) learnt.back() += row["pieces"][i].get<std::string>();
  }
  ASSERT_EQ(learnt.size(), 2u);
  EXPECT_EQ(learnt[0], "我是模型。</s>");
  EXPECT_NE(learnt[1].find("一段文字。</s>"), std::string::npos) << learnt[1];

  const std::string shown = run(show);
  EXPECT_NE(shown.find("sft rows, template vllm"), std::string::npos) << shown;
  EXPECT_NE(shown.find("[</s>]"), std::string::npos) << shown;
  EXPECT_EQ(shown.find('\x1b'), std::string::npos) << "colours go to terminals only";
  std::vector<std::string> counted = as_json;
  counted.push_back("--counts");
  EXPECT_NE(run(counted).find("\"counts\":{\"rows\":2,\"bad\":0"), std::string::npos);
  expect_failure({"data", "show", "--data.train_files", "two.jsonl"}, 2, {"--model.tokenizer"});
}

TEST_F(ChainTest, MergesTwoAdaptersIntoMetasLayout) {
  run({"merge", "--base", "resized", "--adapter", "pretrained", "--adapter", "tuned", "--format",
       "meta", "--output", "merged-meta"});
  EXPECT_FALSE(fs::exists(folder_ / "merged-meta/hf"));
  for (const char* name : {"params.json", "consolidated.00.pth", "tokenizer.model"})
    EXPECT_TRUE(fs::exists(folder_ / "merged-meta" / name)) << name;
  run({"merge", "--base", "resized", "--adapter", "pretrained", "--adapter", "tuned", "--output",
       "merged-hf"});
  const auto perplexity = [&](const char* model) {
    return run({"evaluate", "perplexity", "--model", model, "--file", "en.txt", "--window", "128",
                "--json"});
  };
  EXPECT_EQ(perplexity("merged-meta"), perplexity("merged-hf"));
}

TEST_F(ChainTest, VocabulariesThatDoNotMeetAreNamedSideBySide) {
  expect_failure({"sft", "--model.path", "base", "--model.peft_path", "pretrained",
                  "--data.train_files", source_ + "/assets/sft_zh.jsonl", "--output_dir", "x"},
                 1, {"500", "pretrained", "base"});
  expect_failure({"merge", "--base", "base", "--adapter", "tuned", "--output", "x"}, 1, {"500"});
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(ChainTest, BadInputIsOneLineAndLeavesNothing) {
  expect_failure({"prtrain"}, 2, {"pretrain"});
  expect_failure({"pretrain", "--train.learning_rat", "1"}, 2, {"learning_rate"});
  expect_failure({"pretrain", "--model.path", "random", "--data.train_files", "zh.txt",
                  "--train.learning_rate", "-1", "--output_dir", "x"},
                 2, {"learning_rate", "-1"});
  expect_failure({"merge", "--base", "resized", "--adapter", "tuned", "--output", "chat"}, 2,
                 {"chat", "--overwrite"});
  expect_failure({"generate", "--model", "nowhere", "--prompt", "a"}, 1, {"nowhere"});
  std::ofstream(folder_ / "broken.jsonl") << "{\"input\": \"好\"}\n{\"input\": \"坏\n";
  expect_failure({"pretrain", "--model.path", "resized", "--data.train_files", "broken.jsonl",
                  "--output_dir", "x"},
                 1, {"broken.jsonl:2"});
  std::ofstream(folder_ / "empty.txt") << "";
  expect_failure({"pretrain", "--model.path", "resized", "--data.train_files", "empty.txt",
                  "--output_dir", "x"},
                 1, {"empty.txt"});
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(ChainTest, EveryVerbHasHelp) {
  for (const std::string verb :
       {"tokenize", "train-tokenizer", "extend-vocab", "init-model", "pretrain", "sft", "merge",
        "convert", "generate", "chat", "inspect", "config"}) {
    EXPECT_NE(run({verb, "--help"}).find("usage"), std::string::npos) << verb;
  }
  run({"evaluate", "perplexity", "--help"});
  run({"data", "show", "--help"});
}

TEST_F(ChainTest, ConfigShowsWhereValuesCameFrom) {
  std::ofstream(folder_ / "run.json")
      << "{\n  // a comment\n  \"train\": {\"learning_rate\": 3e-4}\n}\n";
  const std::string shown = run({"config", "show", "--config", "run.json", "--lora.rank", "16"});
  EXPECT_NE(shown.find("run.json:3"), std::string::npos) << shown;
  EXPECT_NE(shown.find("command line"), std::string::npos);
  run({"config", "validate", "--config", "run.json"});
  const json list =
      json::parse(run({"config", "show", "--json", "--config", "run.json", "--lora.rank", "16"}));
  const auto entry = [&](const std::string& key) {
    for (const json& item : list)
      if (item["key"] == key) return item;
    return json();
  };
  EXPECT_EQ(entry("lora.rank"),
            (json{{"key", "lora.rank"}, {"value", 16}, {"source", "command line"}}));
  EXPECT_EQ(entry("train.learning_rate")["source"], "run.json:3");
  EXPECT_EQ(entry("train.seed")["source"], "default");
  EXPECT_TRUE(entry("json").is_null());
  EXPECT_TRUE(json::accept(run({"config", "defaults"})));
}

TEST_F(ChainTest, ConfigValidateKnowsModulesAndDevices) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {R"({"lora": {"target_modules": ["q_prj"]}})", "did you mean \"q_proj\"?"},
      {R"({"lora": {"target_modules": ["q_proj", "q_proj"]}})", "each once"},
      {R"({"lora": {"modules_to_save": ["foo"]}})", "embed_tokens"},
      {R"({"model": {"device": "gpu"}})", "cuda:N"},
      {R"({"json": true})", "unknown key"}};
  for (const auto& [text, part] : wrong) {
    std::ofstream(folder_ / "wrong.json") << text;
    expect_failure({"config", "validate", "--config", "wrong.json"}, 2, {"wrong.json", part});
    expect_failure({"config", "show", "--config", "wrong.json"}, 2, {"wrong.json", part});
  }
  run({"config", "validate", "--model.device", "cuda:1", "--lora.target_modules", "q_proj",
       "v_proj"});
}

TEST_F(ChainTest, OptionsDocumentIsUpToDate) {
  EXPECT_EQ(run({"config", "docs"}), read_file(source_ + "/docs/options.md"))
      << "run: build/llama2zh config docs > docs/options.md";
}

TEST_F(ChainTest, EveryConfigOfTheProjectIsValid) {
  for (const auto& entry : fs::recursive_directory_iterator(source_ + "/configs")) {
    if (entry.path().extension() == ".json")
      run({"config", "validate", "--config", entry.path().string()});
  }
}

}  // namespace
}  // namespace llama2zh
