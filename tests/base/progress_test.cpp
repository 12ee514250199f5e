#include "llama2zh/base/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

TEST(Progress, PlainLinesWhenItIsNoTerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("read", 1000, "rows", /*plain_interval=*/0);
    progress.update(0);
    progress.update(250, "loss 2.31");
    progress.finish();
  }
  const std::vector<std::string> lines = split(testing::internal::GetCapturedStderr(), '\n');
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], MatchesRegex("read: 0/1,000 rows \\(0%\\), 0:00"));
  EXPECT_THAT(lines[1],
              MatchesRegex("read: 250/1,000 rows \\(25%\\), [0-9,]+ rows/s, 0:00, ETA 0:00, "
                           "loss 2.31"));
  EXPECT_THAT(lines[2], StartsWith("read: 250/1,000 rows (25%), "));
  EXPECT_THAT(lines[2], Not(HasSubstr("ETA")));
}

TEST(Progress, PlainLinesKeepTheirInterval) {
  testing::internal::CaptureStderr();
  {
    Progress progress("read", 0, "rows", /*plain_interval=*/1000);
    for (int i = 0; i <= 5000; ++i) progress.update(i);
    progress.finish("done");
    progress.finish("done again");
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              MatchesRegex("read: 5,000 rows, [0-9,]+ rows/s, 0:00, done\n"));
}

TEST(Progress, TheRateOfAResumedRunLeavesOutWhatWasDoneBefore) {
  testing::internal::CaptureStderr();
  Progress progress("train", 2000, "steps", /*plain_interval=*/0);
  progress.update(1000);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  progress.update(1002);
  const std::string second = split(testing::internal::GetCapturedStderr(), '\n').at(1);
  // 2 steps in at least 0.2 s; with the 1000 before it would be thousands.
  const size_t at = second.find("%), ") + 4;
  const double rate = std::atof(second.c_str() + at);
  EXPECT_LE(rate, 10.0) << second;
  EXPECT_GT(rate, 0.1) << second;
  testing::internal::CaptureStderr();
  progress.finish();
  testing::internal::GetCapturedStderr();
}

TEST(Progress, WithoutFinishThereIsNoLastLine) {
  testing::internal::CaptureStderr();
  { Progress("read", 10, "rows").update(1); }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// Standard error becomes a pseudo-terminal of the given width while `act` runs.
template <typename Act>
std::string terminal_output(int columns, Act&& act) {
  int master = -1;
  int slave = -1;
  winsize size{};
  size.ws_col = static_cast<unsigned short>(columns);
  size.ws_row = 24;
  EXPECT_EQ(::openpty(&master, &slave, nullptr, nullptr, &size), 0);
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(slave, STDERR_FILENO);
  act();
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  ::close(slave);
  ::fcntl(master, F_SETFL, O_NONBLOCK);
  std::string output;
  char block[4096];
  for (ssize_t count; (count = ::read(master, block, sizeof block)) > 0;) {
    output.append(block, static_cast<size_t>(count));
  }
  ::close(master);
  return output;
}

TEST(Progress, BarOnATerminalGivesWayToMessages) {
  const std::string output = terminal_output(80, [] {
    Progress progress("train", 10, "steps");
    progress.update(5, "loss 2.31");
    log_info("saved");
    progress.finish("done");
  });
  const size_t bar = output.find("\rtrain: [==========>         ] 5/10 steps (50%)");
  ASSERT_NE(bar, std::string::npos) << output;
  // Cleared, the message on a line of its own, the bar again, and at the end a plain line.
  const size_t message = output.find("\r\x1b[K", bar);
  EXPECT_THAT(output.substr(message),
              MatchesRegex("\r.\\[K[0-9:]+ .*info.*: saved\r\n\rtrain: .*"));
  EXPECT_NE(output.find("\rtrain: [=", message), std::string::npos);
  EXPECT_THAT(output, testing::EndsWith("done\r\n"));
}

TEST(Progress, NarrowTerminalsShortenTheBarThenTheNote) {
  const auto draw = [](int columns) {
    return terminal_output(columns,
                           [] { Progress("train", 10, "steps").update(5, "loss 中文中文中文"); });
  };
  EXPECT_THAT(draw(60), HasSubstr("\rtrain: [====>   ] 5/10 steps (50%), 0:00, loss 中文中文中文"));
  EXPECT_THAT(draw(52), HasSubstr("\rtrain: 5/10 steps (50%), 0:00, loss 中文中文中文"));
  // 38 columns of text, of which a Chinese character takes 2.
  EXPECT_THAT(draw(39), HasSubstr("\rtrain: 5/10 steps (50%), 0:00, loss 中\x1b"));
}

TEST(Progress, WithoutFinishTheBarIsCleared) {
  const std::string output = terminal_output(80, [] { Progress("read", 10, "rows").update(1); });
  EXPECT_THAT(output, testing::EndsWith("\r\x1b[K"));
}

TEST(Terminal, WidthIsThatOfTheTerminal) {
  int width = 0;
  terminal_output(77, [&] { width = terminal_width(); });
  EXPECT_EQ(width, 77);
}

TEST(Terminal, NoColorTurnsColourOff) {
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(use_colour());
  ::unsetenv("NO_COLOR");
}

}  // namespace
}  // namespace llama2zh
