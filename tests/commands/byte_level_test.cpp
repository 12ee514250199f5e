// A byte-level BPE vocabulary through the verbs: from tokenizer.json to training, .gguf and answers.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

class ByteLevelVerbTest : public VerbTest {
 protected:
  // "words": a tokenizer of 701 tokens with SmolLM2's way of cutting; "model": random weights for it.
  static void SetUpTestSuite() {
    make_folder("byte-level");
    const std::string source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    rows_ = source + "/assets/sft_zh.jsonl";
    const json vectors = read_json_file(source + "/tests/tokenizer/data/byte_level.json");
    json tokenizer = vectors["base"];
    tokenizer.update(vectors["variants"]["smollm2"]["changes"]);
    fs::create_directories(folder_ / "words");
    write_file_atomic(folder_ / "words/tokenizer.json", tokenizer.dump());
    write_file_atomic(folder_ / "words/tokenizer_config.json",
                      R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})");
    fs::copy_file(source + "/LICENSE", folder_ / "en.txt");
    run({"init-model", "--tokenizer", "words", "--hidden-size", "32", "--intermediate-size", "64",
         "--num-hidden-layers", "2", "--num-attention-heads", "4", "--num-key-value-heads", "2",
         "--max-position-embeddings", "256", "--initializer-range", "0.3", "--output", "model"});
  }

  static json answer(const std::string& model, const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {
        "generate", "--model",          model, "--prompt",     "你好 the year", "--temperature",
        "0",        "--max-new-tokens", "16",  "--ignore-eos", "--dtype",       "float32",
        "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return json::parse(run(args));
  }

  inline static std::string rows_;
};

TEST_F(ByteLevelVerbTest, TokenizesAndSaysWhatItIs) {
  const json row = json::parse(
      run({"tokenize", "--model", "words", "--text", "the <|im_end|>", "--specials", "--json"}));
  EXPECT_EQ(row["ids"].back(), 2);
  const json found = json::parse(run({"inspect", "model", "--json"}));
  EXPECT_EQ(found["tokenizer"]["type"], "byte-level bpe");
  EXPECT_EQ(found["tokenizer"]["missing_bytes"], json{4});
  EXPECT_EQ(found["tokenizer"]["vocab_size"], 701);
  EXPECT_EQ(json::parse(run({"inspect", "words", "--json"}))["kind"], "tokenizer");
}

TEST_F(ByteLevelVerbTest, TrainsAndAnswers) {
  run({"pretrain", "--method", "full", "--model.path", "model", "--data.train_files", "en.txt",
       "--data.block_size", "64", "--train.max_steps", "3", "--output_dir", "trained"});
  run({"sft", "--data.template", "smollm2", "--model.path", "trained", "--data.train_files", rows_,
       "--data.block_size", "128", "--lora.rank", "4", "--train.max_steps", "3", "--output_dir",
       "tuned"});
  EXPECT_TRUE(fs::exists(folder_ / "tuned/tokenizer.json"));
  run({"merge", "--base", "trained", "--adapter", "tuned", "--output", "chat"});
  EXPECT_EQ(read_file(folder_ / "chat/tokenizer.json"),
            read_file(folder_ / "words/tokenizer.json"));
  EXPECT_EQ(answer("chat")["ids"].size(), 16U);  // the template came with the adapter
  EXPECT_GT(json::parse(run({"evaluate", "perplexity", "--file", "en.txt", "--json", "--model",
                             "chat"}))["perplexity"],
            1);
  run({"prepare", "--model.tokenizer", "words", "--data.train_files", "en.txt", "--output",
       "store"});
  write_file_atomic(folder_ / "texts.jsonl", "{\"text\": \"你好\"}\n");
  run({"embed", "--model", "chat", "--input", "texts.jsonl", "--output", "vectors.jsonl"});
  run({"quantize", "--model", "chat", "--bits", "8", "--output", "int8"});
  EXPECT_EQ(answer("int8")["ids"].size(), 16U);
}

TEST_F(ByteLevelVerbTest, GgufHoldsTheTokenizer) {
  run({"convert", "--input", "model", "--to", "gguf", "--gguf_type", "f32", "--output", "m.gguf"});
  const json raw = answer("model", {"--raw"});
  EXPECT_EQ(answer("m.gguf", {"--raw"}), raw);  // without --tokenizer
  EXPECT_EQ(answer("m.gguf", {"--raw", "--tokenizer", "words"}), raw);
  run({"convert", "--input", "m.gguf", "--output", "back"});
  EXPECT_EQ(answer("back", {"--raw"}), raw);
  run({"convert", "--input", "m.gguf", "--to", "gguf", "--output", "again.gguf"});
  EXPECT_EQ(answer("again.gguf", {"--raw"}), raw);
  const json header = json::parse(run({"inspect", "m.gguf", "--tensors", "--json"}));
  EXPECT_EQ(header["kind"], "gguf");
  EXPECT_EQ(header["metadata"]["tokenizer.ggml.pre"], "smollm");
  EXPECT_EQ(header["metadata"]["tokenizer.ggml.tokens"], "an array of 701 string");
  EXPECT_EQ(header["stored"]["types"], (json{{"F32", 21}}));
  EXPECT_EQ(header["stored"]["list"].size(), 21U);
  EXPECT_EQ(header["tokenizer"]["type"], "byte-level bpe");
  EXPECT_THAT(run({"inspect", "m.gguf"}), ::testing::HasSubstr("metadata.llama.block_count: 2\n"));
}

TEST_F(ByteLevelVerbTest, WhatItCannotBeUsedFor) {
  expect_failure({"extend-vocab", "--tokenizer", "words", "--extension", "words", "--output", "x"},
                 2, {"words", "byte-level BPE", "only a sentencepiece vocabulary"});
  run({"convert", "--input", "model", "--to", "meta", "--output", "meta"});
  EXPECT_FALSE(fs::exists(folder_ / "meta/tokenizer.model"));
  fs::create_directories(folder_ / "other");
  json tokenizer = read_json_file(folder_ / "words/tokenizer.json");
  tokenizer["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  write_file_atomic(folder_ / "other/tokenizer.json", tokenizer.dump());
  fs::copy_file(folder_ / "words/tokenizer_config.json", folder_ / "other/tokenizer_config.json");
  expect_failure({"convert", "--input", "model", "--tokenizer", "other", "--to", "gguf", "--output",
                  "other.gguf"},
                 2, {"other/tokenizer.json", "no name in GGUF"});
  EXPECT_FALSE(fs::exists(folder_ / "other.gguf"));
}

}  // namespace
}  // namespace llama2zh
