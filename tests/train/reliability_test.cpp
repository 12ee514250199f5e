// What a crash or a full disk leaves behind: T5, T6, T10 and the second signal of T14 of the
// reliability notes, each under its name (T1-T4, T7, T8 and T18 are in resume_test, T7, T8 and T14 of
// whole runs in recipe_resume_test, T9 and T11 in trainer_test and recipe_test, T12, T13, T15 and T17 in
// ranks_test, the rest of T14 and T16 in stop_test). A process that is to be killed is this test program, started anew
// with one test and told by environment variables what to do (fork alone would not do: the threads
// of OpenMP do not survive it).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "train/tiny_run.h"

extern char** environ;

namespace llama2zh {
namespace {

TinyOptions saving_run() {
  TinyOptions options;
  options.dropout = 0.1;
  options.train = tiny_trainer_config();
  options.train.max_steps = 6;
  options.train.save_steps = 2;
  return options;
}

std::vector<int64_t> numbers_in(const fs::path& folder) {
  std::vector<int64_t> result;
  for (const CheckpointEntry& entry : list_checkpoints(folder)) result.push_back(entry.step);
  return result;
}

void expect_no_partial(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    EXPECT_FALSE(name.ends_with(".partial") || name.find(".tmp-") != std::string::npos) << name;
  }
}

// Runs the test `name` of this program in a process of its own; its wait status.
int run_alone(const std::string& name, const std::vector<std::string>& variables) {
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  std::vector<std::string> words = {program, cat("--gtest_filter=", name),
                                    "--gtest_also_run_disabled_tests", "--gtest_brief=1"};
  std::vector<std::string> settings = variables;
  for (char** entry = environ; *entry != nullptr; ++entry) settings.emplace_back(*entry);
  std::vector<char*> arguments, environment;
  for (std::string& word : words) arguments.push_back(word.data());
  for (std::string& setting : settings) environment.push_back(setting.data());
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  pid_t child = -1;
  if (::posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments.data(),
                    environment.data()) != 0) {
    return -1;
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The child of T5: dies at the POINTth point of the write of step 4.
TEST(ReliabilityChild, DISABLED_KilledInSave) {
  TinyOptions options = saving_run();
  options.train.save_total_limit = 1;
  options.train.save_in_background = variable("BACKGROUND") == "1";
  const int64_t deadly = std::stoll(variable("POINT"));
  int64_t begun = 0, point = 0;
  set_checkpoint_hook([&](std::string_view name) {
    if (name == "begun") ++begun;
    if (begun == 2 && ++point == deadly) ::kill(::getpid(), SIGKILL);
  });
  TinyRun run(options, variable("FOLDER"));
  run.trainer().run();
  FAIL() << "not killed";
}

TEST(Reliability, T5Kill9DuringSave) {
  const TempFolder straight_folder;
  TinyRun straight(saving_run(), straight_folder.path());
  straight.trainer().run();
  // begun, weights, state, manifest | committed, rotated
  for (int64_t point = 1; point <= 6; ++point) {
    for (const char* background : {point % 2 == 0 ? "0" : "1"}) {
      const TempFolder folder;
      const int status = run_alone("ReliabilityChild.DISABLED_KilledInSave",
                                   {cat("FOLDER=", folder.path().string()), cat("POINT=", point),
                                    cat("BACKGROUND=", background)});
      ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << point;
      const auto newest = newest_valid_checkpoint(folder.path());
      ASSERT_TRUE(newest) << point;
      EXPECT_EQ(newest->step, point <= 4 ? 2 : 4) << point;
      TinyRun resumed(saving_run(), folder.path());
      resumed.trainer().resume(newest->path, read_training_state(newest->path));
      ASSERT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
      const auto ours = resumed.everything(), theirs = straight.everything();
      for (size_t i = 0; i < ours.size(); ++i) {
        EXPECT_TRUE(bit_equal(ours[i].second, theirs[i].second)) << point << " " << ours[i].first;
      }
      expect_no_partial(folder.path());
    }
  }
}

// The child of T14: SIGTERM before step 4, and again at the POINTth point of the save it asks for.
TEST(ReliabilityChild, DISABLED_SignalledTwiceInSave) {
  TinyOptions options = saving_run();
  const int64_t deadly = std::stoll(variable("POINT"));
  options.before_step = [](int64_t step) {
    if (step == 3) ::kill(::getpid(), SIGTERM);
  };
  int64_t begun = 0, point = 0;
  set_checkpoint_hook([&](std::string_view name) {
    if (name == "begun") ++begun;
    if (begun == 2 && ++point == deadly) ::kill(::getpid(), SIGTERM);
  });
  install_stop_signals();
  TinyRun run(options, variable("FOLDER"));
  EXPECT_EQ(run.trainer().run(), TrainOutcome::kStopped);
  EXPECT_EQ(deadly, 0) << "the second signal did not end it";
}

// A second signal during the save ends the process at once, and what was saved before stays good.
TEST(Reliability, T14SecondSignalDuringSave) {
  const TempFolder straight_folder;
  TinyRun straight(saving_run(), straight_folder.path());
  straight.trainer().run();
  for (int64_t point = 0; point <= 5; ++point) {  // 0: no second signal; 5: committed
    const TempFolder folder;
    const int status = run_alone("ReliabilityChild.DISABLED_SignalledTwiceInSave",
                                 {cat("FOLDER=", folder.path().string()), cat("POINT=", point)});
    ASSERT_TRUE(WIFEXITED(status)) << point;
    EXPECT_EQ(WEXITSTATUS(status), point == 0 ? 0 : 128 + SIGTERM) << point;
    const auto newest = newest_valid_checkpoint(folder.path());
    ASSERT_TRUE(newest) << point;
    EXPECT_EQ(newest->step, point == 0 || point == 5 ? 4 : 2) << point;
    verify_manifest(newest->path, /*deep=*/true);
    TinyRun resumed(saving_run(), folder.path());
    resumed.trainer().resume(newest->path, read_training_state(newest->path));
    ASSERT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
    const auto ours = resumed.everything(), theirs = straight.everything();
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_TRUE(bit_equal(ours[i].second, theirs[i].second)) << point << " " << ours[i].first;
    }
  }
}

// Restores the limit when it goes.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(Reliability, T6DiskFullDuringSave) {
  for (const bool background : {false, true}) {
    const TempFolder folder;
    TinyOptions options = saving_run();
    options.train.save_in_background = background;
    options.train.save_total_limit = 1;
    options.train.max_steps = 2;
    {
      TinyRun first(options, folder.path());
      ASSERT_EQ(first.trainer().run(), TrainOutcome::kFinished);
    }
    options.train.max_steps = 6;
    TinyRun run(options, folder.path());
    run.trainer().resume(folder / "checkpoint-2", read_training_state(folder / "checkpoint-2"));
    install_stop_signals();  // which make a write beyond the limit an error
    const FileSizeLimit limit(8192);
    EXPECT_EQ(run.trainer().run(), TrainOutcome::kFinished);
    EXPECT_EQ(run.trainer().state().step, 6);
    EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{2}));
    expect_no_partial(folder.path());
    verify_manifest(folder / "checkpoint-2", /*deep=*/true);
  }
}

// A save that was asked for by stopping may not fail in silence: the error names the path.
TEST(Reliability, T6DiskFullAtTheEndIsAnError) {
  const TempFolder folder;
  TinyOptions options = saving_run();
  options.train.save_steps = 0;
  options.train.stop_at_step = 3;
  TinyRun run(options, folder.path());
  install_stop_signals();
  const FileSizeLimit limit(8192);
  const std::string text = error_text_of(ErrorKind::kIo, [&] { run.trainer().run(); });
  EXPECT_NE(text.find("checkpoint-3"), std::string::npos) << text;
  EXPECT_NE(text.find("file too large"), std::string::npos) << text;
}

// With a limit of 1 a save that fails leaves the old checkpoint, and so does the best one.
TEST(Reliability, T10RotateAfterSuccess) {
  const TempFolder folder;
  TinyOptions options = saving_run();
  options.train.save_total_limit = 1;
  options.train.max_steps = 3;
  {
    TinyRun run(options, folder.path());
    run.trainer().run();
  }
  EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{2}));
  set_checkpoint_hook([&](std::string_view point) {
    if (point == "manifest") fail_io("checkpoint-4", "no space", ENOSPC);
  });
  options.train.max_steps = 4;
  TinyRun failing(options, folder.path());
  failing.trainer().resume(folder / "checkpoint-2", read_training_state(folder / "checkpoint-2"));
  EXPECT_EQ(failing.trainer().run(), TrainOutcome::kFinished);
  set_checkpoint_hook({});
  EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{2}));
  fs::copy(folder / "checkpoint-2", folder / "checkpoint-3");
  fs::copy(folder / "checkpoint-2", folder / "checkpoint-4");
  rotate_checkpoints(folder.path(), "tiny", 2, /*newest=*/4, /*best=*/2);
  EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{2, 4}));
  rotate_checkpoints(folder.path(), "tiny", 1, /*newest=*/4, /*best=*/2);
  EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{2, 4}));
  rotate_checkpoints(folder.path(), "tiny", 1, /*newest=*/4, /*best=*/0);
  EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{4}));
  expect_no_partial(folder.path());
}

TEST(Reliability, SavingInTheBackgroundIsSavingInTheForeground) {
  const TempFolder front, back;
  TinyOptions options = saving_run();
  options.train.save_in_background = false;
  TinyRun first(options, front.path());
  first.trainer().run();
  options.train.save_in_background = true;
  TinyRun second(options, back.path());
  second.trainer().run();
  for (const int64_t step : {2, 4, 6}) {
    const std::string name = cat("checkpoint-", step);
    for (const char* file : {"adapter_model.safetensors", "state.safetensors"}) {
      EXPECT_EQ(read_file(front / name / file), read_file(back / name / file)) << name << file;
    }
  }
}

// The copy is of the moment: steps that run while the writer is slow do not reach it.
TEST(Reliability, SnapshotDoesNotMoveWithTheWeights) {
  const TempFolder folder;
  TinyOptions options = saving_run();
  options.train.max_steps = 3;
  options.train.save_steps = 2;
  set_checkpoint_hook([&](std::string_view point) {
    const auto lines = [&] {
      const std::string log = read_file(folder / "trainer_log.jsonl");
      return std::count(log.begin(), log.end(), '\n');
    };
    while (point == "begun" && lines() < 3) ::usleep(1000);
  });
  TinyRun run(options, folder.path());
  run.trainer().run();
  set_checkpoint_hook({});
  EXPECT_EQ(numbers_in(folder.path()), (std::vector<int64_t>{2}));
  TinyRun resumed(options, folder.path());
  resumed.trainer().resume(folder / "checkpoint-2", read_training_state(folder / "checkpoint-2"));
  resumed.trainer().run();
  const auto ours = resumed.everything(), theirs = run.everything();
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(bit_equal(ours[i].second, theirs[i].second)) << ours[i].first;
  }
}

}  // namespace
}  // namespace llama2zh
