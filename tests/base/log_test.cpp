#include "llama2zh/base/log.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "llama2zh/base/log_thread.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

template <typename Act>
std::string stderr_of(Act&& act) {
  testing::internal::CaptureStderr();
  act();
  return testing::internal::GetCapturedStderr();
}

// Whether the logger colours is settled at its first message, whichever test that is in and whatever terminal it made.
class PlainLog : public testing::Environment {
 public:
  void SetUp() override {
    setenv("NO_COLOR", "1", 1);
    set_log_level(LogLevel::kInfo);
    unsetenv("NO_COLOR");
  }
};
const testing::Environment* const kPlainLog = testing::AddGlobalTestEnvironment(new PlainLog);

TEST(Log, OneLineOnStandardError) {
  testing::internal::CaptureStdout();
  const std::string text = stderr_of([] { log_warning("vocabulary 32,000 {} 中文"); });
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_THAT(text, EndsWith(" warning: vocabulary 32,000 {} 中文\n"));
}

TEST(Log, ControlCharactersAreEscaped) {
  const std::string text = stderr_of([] {
    log_error(
        "a\nb\rc\td\x1b[31m\x7f\xC2\x9B"
        "e\xff");
  });
  EXPECT_THAT(text, HasSubstr("error: a\\nb\\rc\\td\\x1b[31m\\x7f\\x9be\xEF\xBF\xBD\n"));
}

TEST(Log, LevelsBelowTheOneSetAreSilent) {
  EXPECT_EQ(stderr_of([] { log_debug("x"); }), "");
  set_log_level(LogLevel::kError);
  EXPECT_EQ(stderr_of([] { log_warning("x"); }), "");
  EXPECT_NE(stderr_of([] { log_error("x"); }), "");
  set_log_level(LogLevel::kOff);
  EXPECT_EQ(stderr_of([] { log_error("x"); }), "");
  set_log_level(LogLevel::kDebug);
  EXPECT_NE(stderr_of([] { log_debug("x"); }), "");
  set_log_level(LogLevel::kInfo);
}

TEST(Log, LinesOfThreadsDoNotMix) {
  const std::string text = stderr_of([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 100; ++i) log_info(std::string(50, static_cast<char>('a' + t)));
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  const std::vector<std::string> lines = split(text, '\n');
  ASSERT_EQ(lines.size(), 401u);
  for (size_t i = 0; i < 400; ++i) {
    const std::string message = lines[i].substr(lines[i].size() - 50);
    EXPECT_EQ(message, std::string(50, message[0]));
  }
}

// Standard error is a pipe that nobody empties for now.
TEST(Log, AThreadOfItsOwnWaitsForSlowReaders) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  ::close(ends[1]);
  const int64_t lost = lost_log_lines();
  auto thread = std::make_unique<LogThread>();
  for (int i = 0; i < 10000; ++i) {
    log_info(std::string(100, 'x'));
    log_plain("{}");
  }
  log_warning("the end");
  EXPECT_GT(lost_log_lines(), lost);
  std::string text;
  std::thread reader([&] {
    char bytes[65536];
    for (ssize_t size = 0; (size = ::read(ends[0], bytes, sizeof(bytes))) > 0;)
      text.append(bytes, static_cast<size_t>(size));
  });
  thread.reset();
  log_warning("and more");
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  reader.join();
  ::close(ends[0]);
  EXPECT_THAT(text, HasSubstr(" warning: the end\n"));
  EXPECT_THAT(text, HasSubstr("\n{}\n"));
  EXPECT_THAT(text, EndsWith(" warning: and more\n"));
}

}  // namespace
}  // namespace llama2zh
