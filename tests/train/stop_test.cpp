// Requests to stop and steps that are not finite: T14 and T16 of the reliability notes, the time
// limit.
#include "llama2zh/train/stop.h"

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <limits>
#include <thread>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

class Stopping : public ::testing::Test {
 protected:
  void TearDown() override {
    set_checkpoint_hook({});
    clear_stop();
  }
  static TinyOptions steps_of(int64_t count) {
    TinyOptions options;
    options.train = tiny_trainer_config();
    options.train.max_steps = count;
    return options;
  }
  std::vector<int64_t> saved() const {
    std::vector<int64_t> result;
    for (const CheckpointEntry& entry : list_checkpoints(folder_.path())) {
      verify_manifest(entry.path, /*deep=*/true);
      result.push_back(entry.step);
    }
    return result;
  }
  int64_t evaluations() const {
    const auto lines = read_log(folder_.path());
    return std::count_if(lines.begin(), lines.end(),
                         [](const json& line) { return line.contains("eval_loss"); });
  }
  TempFolder folder_;
};

// The evaluation is long, so that the signal falls into it; the run that goes on makes up for it.
TEST_F(Stopping, T14SigtermInEvaluation) {
  TinyOptions options = steps_of(3);
  options.held_out_rows = 6000;
  options.train.eval_steps = 2;
  install_stop_signals();
  std::thread killer;
  options.before_step = [&](int64_t step) {
    if (step != 1) return;
    killer = std::thread([&] {
      const fs::path log = folder_ / "trainer_log.jsonl";
      const auto lines = [&] {
        const std::string text = read_file(log);
        return std::count(text.begin(), text.end(), '\n');
      };
      while (lines() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ::kill(::getpid(), SIGTERM);
    });
  };
  {
    TinyRun run(options, folder_.path());
    EXPECT_EQ(run.trainer().run(), TrainOutcome::kStopped);
  }
  killer.join();
  clear_stop();
  EXPECT_EQ(saved(), (std::vector<int64_t>{2}));
  EXPECT_EQ(evaluations(), 0);
  options.before_step = {};
  options.held_out_rows = 20;
  TinyRun resumed(options, folder_.path());
  resumed.trainer().resume(folder_ / "checkpoint-2", read_training_state(folder_ / "checkpoint-2"));
  EXPECT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
  EXPECT_EQ(evaluations(), 2);  // of step 2 and of the last
}

TEST_F(Stopping, T14SigtermWhileACheckpointIsWritten) {
  TinyOptions options = steps_of(100000);
  options.train.save_steps = 2;
  install_stop_signals();
  for (const bool background : {true, false}) {
    fs::remove_all(folder_ / "run");
    fs::create_directories(folder_ / "run");
    options.train.save_in_background = background;
    set_checkpoint_hook([sent = false](std::string_view point) mutable {
      if (point == "state" && !sent) {
        sent = true;
        ::kill(::getpid(), SIGTERM);
      }
    });
    TinyRun run(options, folder_ / "run");
    EXPECT_EQ(run.trainer().run(), TrainOutcome::kStopped);
    const std::vector<CheckpointEntry> entries = list_checkpoints(folder_ / "run");
    ASSERT_FALSE(entries.empty());
    EXPECT_EQ(entries.front().step, 2);
    EXPECT_EQ(entries.back().step, run.trainer().state().step);
    for (const CheckpointEntry& entry : entries) verify_manifest(entry.path, /*deep=*/true);
    clear_stop();
  }
}

TEST_F(Stopping, TimeIsUp) {
  using std::chrono::minutes;
  const auto now = StopRequest::Clock::now();
  EXPECT_FALSE(StopRequest(0, now - minutes(1000)).asked());
  EXPECT_FALSE(StopRequest(10, now - minutes(9)).asked());
  const StopRequest late(10, now - minutes(11));
  EXPECT_TRUE(late.asked());
  EXPECT_EQ(late.reason(), "train.max_minutes (10) are over");
  TinyOptions options = steps_of(5);
  options.train.max_minutes = 10;
  options.before_step = [&](int64_t step) { EXPECT_LT(step, 5); };
  options.started = now - minutes(11);
  TinyRun none(options, folder_.path());
  EXPECT_EQ(none.trainer().run(), TrainOutcome::kStopped);
  EXPECT_EQ(none.trainer().state().step, 0);
  EXPECT_TRUE(saved().empty());
  options.train.max_steps = 1000000;
  options.train.max_minutes = 11.005;  // 0.3 s from now
  options.before_step = {};
  options.started = StopRequest::Clock::now() - minutes(11);
  TinyRun some(options, folder_.path());
  EXPECT_EQ(some.trainer().run(), TrainOutcome::kStopped);
  const int64_t step = some.trainer().state().step;
  EXPECT_EQ(saved(), step == 0 ? std::vector<int64_t>{} : std::vector<int64_t>{step});
}

// Poisons a weight before the 7th step (`steps` of them long).
void poison(TinyOptions& options, TinyRun*& run, int64_t steps, at::Tensor& healthy) {
  options.before_step = [&run, steps, &healthy](int64_t step) {
    if (step == 6) {
      healthy = run->model().norm.clone();
      run->model().norm[3] = std::numeric_limits<float>::quiet_NaN();
    }
    if (step == 6 + steps) run->model().norm.copy_(healthy);
  };
}

TEST_F(Stopping, T16NanLossStopsByDefault) {
  TinyOptions options = steps_of(12);
  options.train.save_steps = 3;
  TinyRun* run = nullptr;
  at::Tensor healthy;
  poison(options, run, 1, healthy);
  TinyRun made(options, folder_.path());
  run = &made;
  const std::string text = error_text_of(ErrorKind::kData, [&] { made.trainer().run(); });
  EXPECT_NE(text.find("step 7: the loss is nan"), std::string::npos) << text;
  EXPECT_NE(text.find("checkpoint-6"), std::string::npos) << text;
  EXPECT_EQ(made.trainer().state().step, 6);
  EXPECT_EQ(made.trainer().state().updates, 6);
  EXPECT_EQ(saved(), (std::vector<int64_t>{3, 6}));
}

// A loss that is a number, with gradients that are none.
TEST_F(Stopping, T16GradientsThatAreNotFinite) {
  TinyOptions options = steps_of(6);
  options.train.save_steps = 2;
  TinyRun* run = nullptr;
  options.before_step = [&run](int64_t step) {
    if (step != 4) return;
    const at::Tensor& weight = trained_parameters(run->model())[0].tensor;
    weight.mutable_grad() = weight.detach() * std::numeric_limits<float>::infinity();
  };
  TinyRun made(options, folder_.path());
  run = &made;
  const std::string text = error_text_of(ErrorKind::kData, [&] { made.trainer().run(); });
  EXPECT_NE(text.find("step 5: the gradient norm is "), std::string::npos) << text;
  EXPECT_NE(text.find("not a finite number; the step was not applied"), std::string::npos) << text;
  EXPECT_EQ(made.trainer().state().updates, 4);
  EXPECT_EQ(saved(), (std::vector<int64_t>{2, 4}));
}

TEST_F(Stopping, T16NanLossIsSkippedUpToALimit) {
  TinyOptions options = steps_of(12);
  options.train.save_steps = 2;
  options.train.logging_steps = 1;
  options.train.max_nonfinite_steps = 3;
  TinyRun* run = nullptr;
  at::Tensor healthy;
  poison(options, run, 2, healthy);
  {
    TinyRun made(options, folder_.path());
    run = &made;
    EXPECT_EQ(made.trainer().run(), TrainOutcome::kFinished);
    EXPECT_EQ(made.trainer().state().step, 12);
    EXPECT_EQ(made.trainer().state().updates, 10);
  }
  const auto lines = read_log(folder_.path());
  EXPECT_TRUE(lines[6]["loss"].is_null());  // reported as it is, not as a mean of others
  EXPECT_EQ(lines[6]["nonfinite_steps"], 1);
  EXPECT_TRUE(lines[8]["loss"].is_number());
  EXPECT_EQ(saved(), (std::vector<int64_t>{2, 4, 6, 10, 12}));  // 8: in the middle of it
  const json history = read_json_file(folder_ / "trainer_state.json")["log_history"];
  EXPECT_FALSE(history[6].contains("loss"));
  poison(options, run, 3, healthy);
  TinyRun again(options, folder_ / ".");
  run = &again;
  const std::string text = error_text_of(ErrorKind::kData, [&] { again.trainer().run(); });
  EXPECT_NE(text.find("step 9: the loss is nan"), std::string::npos) << text;
}

}  // namespace
}  // namespace llama2zh
