#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/model/load.h"
#include "llama2zh/train/recipe.h"
#include "tokenizer/test_models.h"
#include "train/tiny_run.h"

namespace llama2zh {

// Runs of a tiny model from files to files; each test has a folder of its own, the cache of tokens in it.
class Recipe : public ::testing::Test {
 protected:
  void SetUp() override {
    const testing::TinyModel tiny;
    const Tokenizer tokenizer = Tokenizer::load(tiny.path());
    make_base(base(), tokenizer, tokenizer.vocab_size());
    std::ofstream text(folder_ / "corpus.jsonl");
    for (int i = 0; i < 24; ++i) text << R"({"text": "ab ba ab a bab )" << i << "\"}\n";
    std::ofstream dialogues(folder_ / "dialogues.json");
    dialogues << R"([{"instruction": "ab", "input": "", "output": "ba ba"},)"
              << R"({"instruction": "b", "input": "", "output": "a"}])";
  }
  void TearDown() override { clear_stop(); }

  static void make_base(const fs::path& folder, const Tokenizer& tokenizer, int64_t rows) {
    LlamaConfig config = tiny_model_config();
    config.vocab_size = rows;
    config.max_position_embeddings = 64;
    const auto model = random_model(config, 1, at::kFloat, at::kCPU);
    fs::create_directories(folder);
    save_model(folder, *model, &tokenizer, {});
  }

  RunConfig config(const std::string& output) const {
    RunConfig run;
    run.output_dir = folder_ / output;
    run.model.path = base();
    run.model.device = "cpu";
    run.lora.rank = 2;
    run.data.train_files = {(folder_ / "corpus.jsonl").string()};
    run.data.block_size = 32;
    run.data.cache_dir = folder_ / "cache";
    run.train.gradient_accumulation_steps = 2;
    run.train.max_steps = 4;
    run.train.learning_rate = 1e-2;
    return run;
  }
  fs::path base() const { return folder_ / "base"; }
  fs::path operator/(const std::string& name) const { return folder_ / name; }
  std::string refusal(const RunConfig& run, ErrorKind kind = ErrorKind::kUsage) const {
    return error_text_of(kind, [&] { run_training(run, RowKind::kPretrain); });
  }

  TempFolder folder_;
};

}  // namespace llama2zh
