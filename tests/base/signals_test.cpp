#include "llama2zh/base/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "base/child.h"

namespace llama2zh {
namespace {

TEST(Signals, RequestAndClear) {
  EXPECT_FALSE(stop_requested());
  request_stop(SIGTERM);
  EXPECT_TRUE(stop_requested());
  EXPECT_EQ(stop_signal(), SIGTERM);
  clear_stop();
  EXPECT_FALSE(stop_requested());
  EXPECT_EQ(stop_signal(), 0);
}

TEST(Signals, TheFirstOneSetsTheFlag) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const int status = run_in_child([signal] {
      install_stop_signals();
      ::raise(signal);
      return stop_requested() && stop_signal() == signal ? 0 : 1;
    });
    EXPECT_EQ(status, 0) << signal;
  }
}

TEST(Signals, TheSecondOneEndsTheProcess) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const int status = run_in_child([signal] {
      install_stop_signals();
      ::raise(SIGINT);
      ::raise(signal);
      return 0;
    });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 128 + signal);
  }
}

TEST(Signals, AClearedStopCountsAsNone) {
  const int status = run_in_child([] {
    install_stop_signals();
    ::raise(SIGINT);
    clear_stop();
    ::raise(SIGINT);
    return stop_requested() ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
}

TEST(Signals, WithoutInstallingTheyEndTheProcess) {
  const int status = run_in_child([] {
    ::raise(SIGTERM);
    return 0;
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

}  // namespace
}  // namespace llama2zh
