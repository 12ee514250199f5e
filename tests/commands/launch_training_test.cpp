// The launcher with real training of a tiny random model: stopped, killed and started again it ends with the weights of a run that nobody disturbed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/temp_folder.h"
#include "commands/run_program.h"
#include "commands/started_program.h"
#include "commands/tiny_base.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

class LaunchTraining : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    ::setenv("OMP_NUM_THREADS", "1", 1);  // threads of a model this small only wait for each other
    make_tiny_base(folder_->path());
    run(launch_args("whole", {}));
    run(on_two(launch_args("whole-2", {})));
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static void run(const std::vector<std::string>& args) {
    const ProgramResult result = run_program(folder_->path(), args);
    ASSERT_EQ(result.exit_code, 0) << args[0] << ": " << result.err;
  }
  static std::vector<std::string> launch_args(const std::string& output,
                                              const std::vector<std::string>& options,
                                              const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"launch", "--nproc-per-node", "1"};
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {"--",
                             "pretrain",
                             "--model.path",
                             "base",
                             "--data.train_files",
                             "text.txt",
                             "--data.block_size",
                             "64",
                             "--lora.rank",
                             "4",
                             "--lora.dropout",
                             "0.1",
                             "--train.micro_batch_size",
                             "1",
                             "--train.max_steps",
                             "60",
                             "--train.save_steps",
                             "5",
                             "--train.learning_rate",
                             "1e-2",
                             "--output_dir",
                             output});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  // The same with two ranks.
  static std::vector<std::string> on_two(std::vector<std::string> args) {
    args[2] = "2";
    return args;
  }
  static std::string weights(const std::string& output) {
    return text_of_file(*folder_ / output / "adapter_model.safetensors");
  }
  static bool has_checkpoint(const std::string& output) {
    return fs::exists(*folder_ / output / "checkpoint-5" / "llama2zh_manifest.json");
  }
  static std::vector<pid_t> children_of(pid_t parent) {
    const std::string number = std::to_string(parent);
    std::istringstream list(text_of_file("/proc/" + number + "/task/" + number + "/children"));
    std::vector<pid_t> children;
    for (pid_t child = 0; list >> child;) children.push_back(child);
    return children;
  }

  static TempFolder* folder_;
};
TempFolder* LaunchTraining::folder_ = nullptr;

TEST_F(LaunchTraining, ARankThatIsKilledIsResumed) {
  StartedProgram program(folder_->path(), launch_args("killed", {"--max-restarts", "1"}));
  ASSERT_TRUE(wait_until([] { return has_checkpoint("killed"); })) << program.err();
  const std::vector<pid_t> ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 1U) << program.err();
  ::kill(ranks.back(), SIGKILL);
  EXPECT_EQ(program.wait(), 0) << program.err();
  EXPECT_THAT(program.err(), HasSubstr("was killed by signal 9"));
  EXPECT_THAT(program.err(), HasSubstr("resuming at step"));
  EXPECT_EQ(weights("killed"), weights("whole"));
}

TEST_F(LaunchTraining, ASignalSavesAndResumeGoesOn) {
  {
    StartedProgram program(folder_->path(), launch_args("stopped", {}));
    ASSERT_TRUE(wait_until([] { return has_checkpoint("stopped"); })) << program.err();
    program.signal(SIGTERM);
    EXPECT_EQ(program.wait(), 0) << program.err();
    EXPECT_THAT(program.err(), HasSubstr("passed on to the ranks"));
    EXPECT_THAT(program.err(), HasSubstr("stopped; go on"));
    EXPECT_EQ(weights("stopped"), "");
  }
  run(launch_args("stopped", {}, {"--resume"}));
  EXPECT_EQ(weights("stopped"), weights("whole"));
}

// The same on two ranks: the one that goes takes the other with it, and both go on from one checkpoint.
TEST_F(LaunchTraining, OneOfTwoRanksThatIsKilledIsResumed) {
  StartedProgram program(folder_->path(), on_two(launch_args("killed-2", {"--max-restarts", "1"})));
  ASSERT_TRUE(wait_until([] { return has_checkpoint("killed-2"); })) << program.err();
  const std::vector<pid_t> ranks = children_of(program.pid());
  ASSERT_EQ(ranks.size(), 2U) << program.err();
  ::kill(ranks.back(), SIGKILL);
  EXPECT_EQ(program.wait(), 0) << program.err();
  EXPECT_THAT(program.err(), HasSubstr("rank 1 on "));
  EXPECT_THAT(program.err(), HasSubstr("was killed by signal 9"));
  EXPECT_THAT(program.err(), HasSubstr("resuming at step"));
  EXPECT_EQ(weights("killed-2"), weights("whole-2"));
}

TEST_F(LaunchTraining, ASignalStopsTwoRanksAndResumeGoesOn) {
  {
    StartedProgram program(folder_->path(), on_two(launch_args("stopped-2", {})));
    ASSERT_TRUE(wait_until([] { return has_checkpoint("stopped-2"); })) << program.err();
    program.signal(SIGTERM);
    EXPECT_EQ(program.wait(), 0) << program.err();
    EXPECT_THAT(program.err(), HasSubstr("stopped; go on"));
    EXPECT_EQ(weights("stopped-2"), "");
  }
  run(on_two(launch_args("stopped-2", {}, {"--resume"})));
  EXPECT_EQ(weights("stopped-2"), weights("whole-2"));
}

// A step that comes to no number would do so again: restarts are for what fails by chance.
TEST_F(LaunchTraining, DivergedTrainingIsNotStartedAgain) {
  std::vector<std::string> args = on_two(launch_args("diverged", {"--max-restarts", "2"}));
  std::replace(args.begin(), args.end(), std::string("1e-2"), std::string("1e30"));
  const ProgramResult result = run_program(folder_->path(), args);
  EXPECT_EQ(result.exit_code, 65) << result.err;
  EXPECT_THAT(result.err, HasSubstr("not a finite number; the step was not applied"));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("starting all ranks again")));
}

TEST_F(LaunchTraining, WithoutACheckpointItBeginsAgain) {
  StartedProgram program(folder_->path(), launch_args("early", {"--max-restarts", "1"}));
  ASSERT_TRUE(wait_until([&] { return !children_of(program.pid()).empty(); }));
  ASSERT_TRUE(wait_until([&] { return fs::exists(*folder_ / "early"); }));
  for (const pid_t rank : children_of(program.pid())) ::kill(rank, SIGKILL);
  EXPECT_EQ(program.wait(), 0) << program.err();
  EXPECT_EQ(weights("early"), weights("whole"));
}

// Pairs, reference and metrics are shared by ranks: two micro-batches of one rank are one of two each.
TEST_F(LaunchTraining, PreferencesOnTwoRanksAreThoseOnOne) {
  {
    std::ofstream pairs(*folder_ / "pairs.jsonl");
    for (int i = 0; i < 9; ++i) {
      pairs << R"({"prompt": "the licence", "chosen": "the rights)" << std::string(i, 's')
            << R"(", "rejected": "no"})"
            << "\n";
    }
  }
  const auto tune = [](const char* ranks, const char* accumulation, const char* output) {
    run({"launch",      "--nproc-per-node",
         ranks,         "--",
         "dpo",         "--model.path",
         "base",        "--model.device",
         "cpu",         "--data.train_files",
         "pairs.jsonl", "--data.template",
         "plain",       "--data.block_size",
         "64",          "--lora.dropout",
         "0",           "--train.micro_batch_size",
         "1",           "--train.gradient_accumulation_steps",
         accumulation,  "--train.max_steps",
         "4",           "--train.logging_steps",
         "1",           "--train.learning_rate",
         "1e-2",        "--output_dir",
         output});
    std::vector<json> lines;
    std::istringstream log(text_of_file(*folder_ / output / "trainer_log.jsonl"));
    for (std::string line; std::getline(log, line);) lines.push_back(json::parse(line));
    return lines;
  };
  const std::vector<json> one = tune("1", "2", "dpo-1"), two = tune("2", "1", "dpo-2");
  ASSERT_EQ(one.size(), two.size());
  ASSERT_GE(one.size(), 4U);
  for (size_t i = 0; i < one.size(); ++i) {
    for (const char* key : {"loss", "grad_norm", "rewards/margins", "logps/chosen"}) {
      const double expected = one[i].at(key);
      EXPECT_NEAR(two[i].at(key).get<double>(), expected, 1e-5 * std::max(1.0, std::abs(expected)))
          << key << " of line " << i;
    }
  }
  const auto reference = [](const char* output) {
    return open_safetensors(*folder_ / output / "reference_log_probs.safetensors")
        ->load("chosen")
        .clone();
  };
  EXPECT_TRUE(reference("dpo-1").allclose(reference("dpo-2"), 1e-5, 1e-5));
}

// What is wrong is found by every rank and said once.
TEST_F(LaunchTraining, AnErrorOfAllRanksIsToldByTheFirst) {
  std::vector<std::string> args = launch_args("wrong", {}, {"--lora.rank_pattern", "qproj=4"});
  args[2] = "2";
  const ProgramResult result = run_program(folder_->path(), args);
  EXPECT_EQ(result.exit_code, 2) << result.err;
  const std::string told = "lora.rank_pattern: \"qproj\" matches no module";
  const size_t first = result.err.find(told);
  ASSERT_NE(first, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find(told, first + 1), std::string::npos) << result.err;
  EXPECT_THAT(result.err, HasSubstr("error: rank 0 on "));
}

TEST_F(LaunchTraining, OneRankAloneNamesItself) {
  std::vector<std::string> args = launch_args("wrong", {}, {"--lora.rank_pattern", "qproj=4"});
  args.erase(args.begin(), args.begin() + 4);  // the verb alone, as torchrun starts it
  for (const auto& [name, value] : {std::pair("RANK", "1"), {"WORLD_SIZE", "2"}})
    ::setenv(name, value, 1);
  const ProgramResult result = run_program(folder_->path(), args);
  for (const char* name : {"RANK", "WORLD_SIZE"}) ::unsetenv(name);
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr("error: rank 1: lora.rank_pattern: \"qproj\""));
}

TEST_F(LaunchTraining, LoraOptionsDoNotGoWithMethodFull) {
  std::ofstream(*folder_ / "lora.json") << R"({"lora": {"rank": 4, "use_dora": true}})";
  std::ofstream(*folder_ / "full.json") << R"({"method": "full", "lora": {"use_dora": true}})";
  const auto plan = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {
        "pretrain",     "--model.path", "base",        "--data.train_files", "text.txt",
        "--output_dir", "plans",        "--plan_only", "--data.block_size",  "64"};
    args.insert(args.end(), more.begin(), more.end());
    return run_program(folder_->path(), args);
  };
  ProgramResult result = plan({"--method", "full", "--lora.use_dora", "--lora.rank", "4"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("no adapter (set: lora.rank, lora.use_dora); leave it out"));
  EXPECT_EQ(plan({"--config", "full.json"}).exit_code, 2);
  result = plan({"--config", "lora.json", "--method", "full"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("lora.rank, lora.use_dora of lora.json do not count"));
  EXPECT_EQ(plan({"--config", "lora.json"}).exit_code, 0);
}

TEST_F(LaunchTraining, WhatIsWrongIsFoundByThePlan) {
  const auto plan = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {
        "pretrain", "--model.path", "base",  "--plan_only",       "--data.train_files",
        "text.txt", "--output_dir", "plans", "--data.block_size", "64"};
    args.insert(args.end(), more.begin(), more.end());
    return run_program(folder_->path(), args);
  };
  EXPECT_THAT(plan({"--lora.alpha_pattern", "mlp=4"}).err,
              HasSubstr("lora.alpha_pattern: \"mlp\" matches no module"));
  EXPECT_EQ(plan({"--lora.alpha_pattern", "mlp.*=4"}).exit_code, 0);
  const ProgramResult none = plan({"--lora.modules_to_save=", "--lora.rank", "2"});
  EXPECT_EQ(none.exit_code, 0) << none.err;
  const ProgramResult unwritable =
      run_program(folder_->path(), {"pretrain", "--plan_only", "--output_dir", "/proc/x"});
  EXPECT_EQ(unwritable.exit_code, 1);  // before the model, which is not even named
  EXPECT_THAT(unwritable.err, HasSubstr("/proc/x: the output folder can't be written to"));
}

// The step where a run was to stop: again is nothing to do, beyond it a mistake.
TEST_F(LaunchTraining, StopAtStepBehindTheCheckpoint) {
  const auto at = [&](const std::string& step, const std::vector<std::string>& more) {
    std::vector<std::string> args = launch_args("stopped_at", {}, {"--train.stop_at_step", step});
    args.erase(args.begin(), args.begin() + 4);
    args.insert(args.end(), more.begin(), more.end());
    return run_program(folder_->path(), args);
  };
  EXPECT_EQ(at("4", {}).exit_code, 0);
  const ProgramResult again = at("4", {"--resume"});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.err, HasSubstr("train.stop_at_step is 4; no step was made"));
  const ProgramResult beyond = at("3", {"--resume"});
  EXPECT_EQ(beyond.exit_code, 2);
  EXPECT_THAT(beyond.err, HasSubstr("train.stop_at_step: is 3, but "));
  EXPECT_EQ(at("5", {"--resume"}).exit_code, 0);
}

}  // namespace
}  // namespace llama2zh
