// What verbs write and do not write: outputs that would cost an input or a stranger's file, adapters on another base, full disks, signals.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "commands/started_program.h"
#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

class OutputTest : public VerbTest {
 protected:
  // A tokenizer, two models of one shape ("base", "other") and an adapter of "base".
  static void SetUpTestSuite() {
    make_folder("output");
    const std::string source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    fs::copy_file(source + "/LICENSE", folder_ / "en.txt");
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "400", "--output", "en.model"});
    run({"train-tokenizer", "--input", "en.txt", "--vocab-size", "450", "--model-type", "unigram",
         "--output", "more.model"});
    init_model("base", "1");
    init_model("other", "2");
    run(pretrain("adapter", {"--train.max_steps", "1"}));
  }

  static void init_model(const std::string& output, const std::string& seed) {
    run({"init-model", "--tokenizer", "en.model", "--hidden-size", "16", "--intermediate-size",
         "32", "--num-hidden-layers", "1", "--num-attention-heads", "2",
         "--max-position-embeddings", "128", "--seed", seed, "--output", output});
  }
  static std::vector<std::string> pretrain(const std::string& output,
                                           const std::vector<std::string>& more) {
    std::vector<std::string> args = {"pretrain", "--model.path", "base", "--data.train_files",
                                     "en.txt",   "--lora.rank",  "2",    "--data.block_size",
                                     "64",       "--output_dir", output};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  // Every verb that writes a folder, writing `output` with --overwrite.
  static std::vector<std::vector<std::string>> writers(const std::string& output) {
    return {{"init-model", "--tokenizer", "base", "--output", output, "--overwrite"},
            {"convert", "--input", "base", "--output", output, "--overwrite"},
            {"merge", "--base", "base", "--adapter", "adapter", "--output", output, "--overwrite"},
            {"extend-vocab", "--tokenizer", "base/tokenizer.model", "--extension", "more.model",
             "--output", output, "--overwrite"}};
  }
  static bool partial_left() {
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename().string().find(".partial") != std::string::npos) return true;
    return false;
  }
};

TEST_F(OutputTest, OverwriteSparesForeignFiles) {
  fs::create_directories(folder_ / "mine/sub");
  write_file_atomic(folder_ / "mine/sub/thesis.tex", "years of work");
  write_file_atomic(folder_ / "mine/config.json", "{}");
  for (const auto& args : writers("mine")) expect_failure(args, 2, {"mine", "sub/thesis.tex"});
  EXPECT_EQ(read_file(folder_ / "mine/sub/thesis.tex"), "years of work");
  // What is beside the output under a likely name is nobody's leftover.
  fs::create_directories(folder_ / "result.partial");
  write_file_atomic(folder_ / "result.partial/notes", "mine");
  run(writers("result")[1]);
  EXPECT_EQ(read_file(folder_ / "result.partial/notes"), "mine");
  fs::remove_all(folder_ / "result.partial");
  run(writers("result")[1]);  // a folder of ours is replaced
  // A run's folder holds more than its result.
  expect_failure({"convert", "--input", "base", "--output", "adapter", "--overwrite"}, 2,
                 {"trainer_log.jsonl"});
}

TEST_F(OutputTest, AnInputIsNotWrittenOver) {
  const std::string before = read_file(folder_ / "base/model.safetensors");
  for (const auto& args : writers("base")) expect_failure(args, 2, {"--output", "lost"});
  fs::create_directory_symlink(folder_ / "base", folder_ / "link");
  for (const auto& args : writers("link")) expect_failure(args, 2, {"--output", "lost"});
  expect_failure(
      {"merge", "--base", "base", "--adapter", "adapter", "--output", "adapter", "--overwrite"}, 2,
      {"--adapter"});
  expect_failure(pretrain("adapter", {"--model.peft_path", "adapter", "--overwrite"}), 2,
                 {"output_dir", "model.peft_path"});
  EXPECT_EQ(read_file(folder_ / "base/model.safetensors"), before);
  EXPECT_FALSE(partial_left());
}

TEST_F(OutputTest, AnotherBaseOfTheSameShapeIsRefused) {
  const std::vector<std::string> merge = {"merge",   "--base",   "other",   "--adapter",
                                          "adapter", "--output", "of-other"};
  const std::vector<std::string> generate = {"generate",         "--model", "other",    "--adapter",
                                             "adapter",          "--raw",   "--prompt", "the",
                                             "--max-new-tokens", "1"};
  expect_failure(merge, 1, {"another base", "--allow-other-base"});
  EXPECT_FALSE(fs::exists(folder_ / "of-other"));
  expect_failure(generate, 1, {"another base", "--allow-other-base"});
  const auto onward = [](std::vector<std::string> args) {
    args.push_back("--allow-other-base");
    run(args);
  };
  onward(merge);
  onward(generate);
  std::vector<std::string> train =
      pretrain("go-on", {"--model.peft_path", "adapter", "--model.path", "other", "--plan_only"});
  train.erase(train.begin() + 1, train.begin() + 3);
  expect_failure(train, 1, {"another base", "--model.allow_other_base"});
  onward(train);
  // PEFT's adapters say nothing about their base.
  fs::create_directory(folder_ / "peft");
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
    fs::copy_file(folder_ / "adapter" / name, folder_ / "peft" / name);
  run({"merge", "--base", "other", "--adapter", "peft", "--output", "of-peft"});
}

TEST_F(OutputTest, AnAdapterThatLearntNothingIsRefused) {
  expect_failure(pretrain("idle", {"--train.max_steps", "1", "--train.learning_rate", "0"}), 1,
                 {"every lora_B is zero"});
  EXPECT_FALSE(fs::exists(folder_ / "idle/adapter_model.safetensors"));
  run(pretrain("rows-only", {"--train.max_steps", "1", "--train.freeze", ".*lora_B.weight"}));
}

TEST_F(OutputTest, MetaPartsAreCheckedBeforeTheWork) {
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"merge", "--base", "base", "--adapter", "adapter", "--format",
                                 "meta", "--parts", "3", "--output", "meta"},
        {"convert", "--input", "base", "--to", "meta", "--parts", "3", "--output", "meta"}}) {
    fs::create_directories(folder_ / "meta");
    write_file_atomic(folder_ / "meta/file", "");
    expect_failure(args, 2, {"parts: the number of heads"});  // not: the folder is not empty
    fs::remove_all(folder_ / "meta");
  }
  run({"convert", "--input", "base", "--to", "meta", "--parts", "2", "--output", "meta"});
  const json found = json::parse(run({"inspect", "meta", "--json"}));
  EXPECT_EQ(found["manifest"]["verified"], "sizes and checksums");
  EXPECT_EQ(found["manifest"]["kind"], "model");
}

TEST_F(OutputTest, AFullDiskUnderStandardOutputIsAnError) {
  const std::string binary = std::getenv("LLAMA2ZH_BINARY");
  for (const std::string args : {"config defaults", "tokenize --model base --file en.txt",
                                 "inspect base --json", "--help"}) {
    const std::string line = "cd " + shell_quote(folder_.string()) + " && " + shell_quote(binary) +
                             " " + args + " > /dev/full 2> full.txt";
    const int status = std::system(line.c_str());
    EXPECT_EQ(WEXITSTATUS(status), 1) << args;
    EXPECT_NE(text_of_file(folder_ / "full.txt").find("standard output"), std::string::npos)
        << args << ": " << text_of_file(folder_ / "full.txt");
  }
}

// --report-text reads from a pipe, so the signal comes surely while the folder is half written.
TEST_F(OutputTest, ASignalLeavesNothingHalfWritten) {
  for (const int number : {SIGINT, SIGTERM}) {
    ASSERT_EQ(::mkfifo((folder_ / "pipe.txt").c_str(), 0600), 0);
    StartedProgram program(folder_,
                           {"extend-vocab", "--tokenizer", "base", "--model", "base", "--extension",
                            "more.model", "--report-text", "pipe.txt", "--output", "stopped"});
    {
      std::ofstream pipe(folder_ / "pipe.txt");  // opens when the program does
      EXPECT_TRUE(fs::exists(folder_ / "stopped.llama2zh.partial"));
      program.signal(number);
      pipe << "some text\n";
    }
    EXPECT_EQ(program.wait(), 128 + number) << program.err();
    EXPECT_NE(program.err().find("nothing was written"), std::string::npos) << program.err();
    EXPECT_FALSE(fs::exists(folder_ / "stopped"));
    EXPECT_FALSE(partial_left());
    fs::remove(folder_ / "pipe.txt");
  }
}

TEST_F(OutputTest, AnEmptyReportTextIsRefused) {
  write_file_atomic(folder_ / "empty.txt", "\n");
  expect_failure({"extend-vocab", "--tokenizer", "base", "--extension", "more.model",
                  "--report-text", "en.txt", "empty.txt", "--output", "reported"},
                 1, {"empty.txt", "no text"});
  EXPECT_FALSE(fs::exists(folder_ / "reported"));
}

// Restarts of a run that had come to no checkpoint pass --resume too; a result is another matter.
TEST_F(OutputTest, ResumingAnEndedRunWithoutCheckpointsKeepsItsResult) {
  run(pretrain("ended", {"--train.max_steps", "1"}));
  const std::string before = read_file(folder_ / "ended/adapter_model.safetensors");
  expect_failure(pretrain("ended", {"--train.max_steps", "2", "--resume"}), 2,
                 {"ended", "adapter_model.safetensors", "no checkpoint", "--overwrite"});
  EXPECT_EQ(read_file(folder_ / "ended/adapter_model.safetensors"), before);
  run(pretrain("begun", {"--train.max_steps", "1", "--resume"}));
}

TEST_F(OutputTest, InspectListsTheCheckpointsOfARun) {
  run_program(folder_, pretrain("run", {"--train.max_steps", "3", "--train.save_steps", "1",
                                        "--train.stop_at_step", "2"}));
  fs::resize_file(folder_ / "run/checkpoint-1/adapter_model.safetensors", 10);
  const json found = json::parse(run({"inspect", "run", "--json"}));
  EXPECT_EQ(found["kind"], "run");
  ASSERT_EQ(found["checkpoints"].size(), 2u);
  EXPECT_EQ(found["checkpoints"][0]["whole"], false);
  EXPECT_EQ(found["checkpoints"][1]["name"], "checkpoint-2");
  EXPECT_EQ(found["checkpoints"][1]["whole"], true);
  EXPECT_NE(run({"inspect", "run"}).find("checkpoints: checkpoint-2, whole"), std::string::npos);
}

}  // namespace
}  // namespace llama2zh
