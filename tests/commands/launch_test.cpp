// The launcher with a shell in the place of the training: what ranks find in their environment, how one that fails ends the others, restarts, signals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/temp_folder.h"
#include "commands/run_program.h"
#include "commands/started_program.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Launch : public ::testing::Test {
 protected:
  // launch OPTIONS --program sh -- -c SCRIPT
  static std::vector<std::string> shell(const std::string& script,
                                        const std::vector<std::string>& options = {}) {
    std::vector<std::string> args = {"launch", "--nproc-per-node", "2", "--program", "sh"};
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {"--", "-c", script});
    return args;
  }
  ProgramResult run(const std::string& script, const std::vector<std::string>& options = {}) {
    return run_program(folder_.path(), shell(script, options));
  }
  ProgramResult launch(std::vector<std::string> args) {
    args.insert(args.begin(), "launch");
    return run_program(folder_.path(), args);
  }
  bool there(const std::string& name) const { return fs_exists(folder_ / name); }
  static bool fs_exists(const std::filesystem::path& path) { return std::filesystem::exists(path); }
  std::string text(const std::string& name) const { return text_of_file(folder_ / name); }

  TempFolder folder_;
};

// A rank that waits for ever, and says that it is there.
constexpr const char* kWait = "touch ready.$RANK; while :; do sleep 0.05; done";
// A rank that saves when it is asked to end.
constexpr const char* kSave =
    "trap 'touch saved.$RANK; exit 0' TERM INT; touch ready.$RANK; while :; do sleep 0.05; done";

TEST_F(Launch, RanksFindTorchrunsVariables) {
  const ProgramResult result =
      run("echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR "
          "$TORCHELASTIC_RESTART_COUNT"
          " $LLAMA2ZH_LAUNCH > env.$RANK; echo $MASTER_PORT > port.$RANK");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(text("env.0"), "0 0 2 2 127.0.0.1 0 1\n");
  EXPECT_EQ(text("env.1"), "1 1 2 2 127.0.0.1 0 1\n");
  EXPECT_EQ(text("port.0"), text("port.1"));
  EXPECT_GT(std::stoi(text("port.0")), 0);
}

TEST_F(Launch, OutputOfOtherRanksIsMarked) {
  const ProgramResult result = run("echo out of $RANK; echo err of $RANK >&2; printf unfinished");
  EXPECT_THAT(result.out, HasSubstr("[rank 1] out of 1\n"));
  EXPECT_THAT(result.out, HasSubstr("[rank 1] unfinished\n"));
  EXPECT_THAT(result.out, HasSubstr("out of 0\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("[rank 0]")));
  EXPECT_THAT(result.err, HasSubstr("[rank 1] err of 1\n"));
}

TEST_F(Launch, LogFolderTakesTheOthersOutput) {
  const ProgramResult result =
      run("echo out of $RANK; echo err of $RANK >&2", {"--log-dir", "l/g"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(text("l/g/rank-1.log"), HasSubstr("out of 1\n"));
  EXPECT_THAT(text("l/g/rank-1.log"), HasSubstr("err of 1\n"));
  EXPECT_THAT(text("l/g/rank-0.log"), HasSubstr("out of 0\n"));
  EXPECT_EQ(result.out, "out of 0\n");
}

// On a terminal rank 0 would have it to itself, and the log would stay empty.
TEST_F(Launch, LogFolderHasRankZerosOutputOnATerminalToo) {
  int terminal = -1;
  std::vector<std::string> words = shell("[ -t 2 ] && echo terminal; echo err of $RANK >&2",
                                         {"--log-dir", (folder_ / "logs").string()});
  words.insert(words.begin(), std::getenv("LLAMA2ZH_BINARY"));
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    ::execv(argv[0], argv.data());
    ::_exit(99);
  }
  std::string shown;
  std::array<char, 4096> buffer;
  for (ssize_t n = 0; (n = ::read(terminal, buffer.data(), buffer.size())) > 0;)
    shown.append(buffer.data(), static_cast<size_t>(n));
  ::close(terminal);
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << shown;
  EXPECT_THAT(shown, HasSubstr("err of 0"));
  EXPECT_THAT(text("logs/rank-0.log"), HasSubstr("err of 0\n"));
  EXPECT_THAT(text("logs/rank-0.log"), Not(HasSubstr("terminal")));
}

TEST_F(Launch, AFailedRankEndsTheOthers) {
  const ProgramResult result = run(
      std::string("if [ $RANK = 1 ]; then echo first; echo last words >&2; exit 3; fi; ") + kWait);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("error: rank 1 on "));
  EXPECT_THAT(result.err, HasSubstr("ended with exit code 3, after: "));
  EXPECT_THAT(result.err, HasSubstr("| last words"));
  EXPECT_THAT(result.err, HasSubstr("| first"));
}

TEST_F(Launch, TheLastWordsAreThoseOnStandardError) {
  const ProgramResult result = run("[ $RANK = 0 ] || { echo reason >&2; echo later; exit 3; }");
  EXPECT_THAT(result.err, HasSubstr("exit code 3, after: reason"));
}

TEST_F(Launch, AKilledRankIsNamed) {
  const ProgramResult result = run(std::string("[ $RANK = 0 ] || kill -9 $$; ") + kWait);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("was killed by signal 9"));
  EXPECT_THAT(result.err, HasSubstr("out of memory"));
}

TEST_F(Launch, RanksThatDoNotEndAreKilled) {
  const ProgramResult result = run(std::string("[ $RANK = 0 ] || exit 4; trap '' TERM; ") + kWait,
                                   {"--shutdown-timeout", "0.2"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("killing them"));
  EXPECT_THAT(result.err, HasSubstr("exit code 4"));
}

TEST_F(Launch, WhatARankHasStartedGoesWithIt) {
  const ProgramResult result =
      run("[ $RANK = 0 ] || exit 4; sleep 1000 & echo $! > child; trap '' TERM; wait",
          {"--shutdown-timeout", "1"});
  EXPECT_EQ(result.exit_code, 1);
  if (!there("child")) return;  // rank 1 was faster
  const pid_t child = std::stoi(text("child"));
  EXPECT_TRUE(wait_until([&] { return ::kill(child, 0) != 0 && errno == ESRCH; }));
}

TEST_F(Launch, RestartsAllRanks) {
  const std::string script =
      "echo $TORCHELASTIC_RESTART_COUNT >> starts.$RANK;"
      "[ $RANK = 0 -o $TORCHELASTIC_RESTART_COUNT = 2 ] || exit 5;"
      "[ $TORCHELASTIC_RESTART_COUNT = 2 ] || sleep 1000";
  const ProgramResult result = run(script, {"--max-restarts", "3"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(text("starts.1"), "0\n1\n2\n");
  EXPECT_THAT(result.err, HasSubstr("(restart 2 of 3)"));
}

TEST_F(Launch, RestartsEnd) {
  const ProgramResult result = run("echo >> starts; exit 5", {"--max-restarts", "2"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("(restart 2 of 2)"));
  EXPECT_THAT(result.err, HasSubstr("exit code 5"));
}

TEST_F(Launch, WrongUsageIsNotTriedAgain) {
  const ProgramResult result = run("exit 2", {"--max-restarts", "2"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, Not(HasSubstr("restart")));
}

// 65 is the exit code of training that has diverged (base/diverged.h).
TEST_F(Launch, DivergedTrainingIsNotTriedAgain) {
  const ProgramResult result = run("exit 65", {"--max-restarts", "2"});
  EXPECT_EQ(result.exit_code, 65);
  EXPECT_THAT(result.err, Not(HasSubstr("restart")));
}

TEST_F(Launch, SignalsArePassedOn) {
  for (const int signal : {SIGTERM, SIGINT}) {
    for (const char* name : {"ready.0", "ready.1", "saved.0", "saved.1"})
      std::filesystem::remove(folder_ / name);
    StartedProgram program(folder_.path(), shell(kSave));
    ASSERT_TRUE(wait_until([&] { return there("ready.0") && there("ready.1"); }));
    program.signal(signal);
    EXPECT_EQ(program.wait(), 0) << program.err();
    EXPECT_TRUE(there("saved.0") && there("saved.1"));
  }
}

TEST_F(Launch, ASecondSignalKills) {
  StartedProgram program(folder_.path(), shell(std::string("trap '' TERM; ") + kWait));
  ASSERT_TRUE(wait_until([&] { return there("ready.0") && there("ready.1"); }));
  program.signal(SIGTERM);
  ASSERT_TRUE(wait_until([&] { return program.err().find("passed on") != std::string::npos; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait(), 128 + SIGTERM) << program.err();
}

TEST_F(Launch, SignalsAtOnceAreOneRequest) {
  StartedProgram program(folder_.path(), shell(kSave));
  ASSERT_TRUE(wait_until([&] { return there("ready.0") && there("ready.1"); }));
  program.signal(SIGTERM);
  program.signal(SIGINT);
  EXPECT_EQ(program.wait(), 0) << program.err();
}

TEST_F(Launch, ASignalAfterTheRanksEndedChangesNothing) {
  for (int delay = 0; delay < 20; delay += 2) {
    for (const char* name : {"ready.0", "ready.1"}) std::filesystem::remove(folder_ / name);
    StartedProgram program(folder_.path(), shell(kSave));
    ASSERT_TRUE(wait_until([&] { return there("ready.0") && there("ready.1"); }));
    program.signal(SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(60 + delay));
    program.signal(SIGINT);
    EXPECT_EQ(program.wait(), 0) << program.err();
  }
}

TEST_F(Launch, RanksWithoutAHandlerHaveNotSaved) {
  StartedProgram program(folder_.path(), shell(kWait, {"--max-restarts", "1"}));
  ASSERT_TRUE(wait_until([&] { return there("ready.0") && there("ready.1"); }));
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait(), 128 + SIGTERM) << program.err();
}

TEST_F(Launch, NoRankOutlivesTheLauncher) {
  StartedProgram program(folder_.path(), shell(std::string("echo $$ > pid.$RANK; ") + kWait));
  ASSERT_TRUE(wait_until([&] { return there("ready.0") && there("ready.1"); }));
  program.signal(SIGKILL);
  EXPECT_EQ(program.wait(), 128 + SIGKILL);
  for (const char* name : {"pid.0", "pid.1"}) {
    const pid_t rank = std::stoi(text(name));
    EXPECT_TRUE(wait_until([&] { return ::kill(rank, 0) != 0 && errno == ESRCH; })) << name;
  }
}

TEST_F(Launch, BadOptionsStartNothing) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--nproc-per-node", "2"}, "no verb to start"},
      {{"--nproc-per-node", "2", "sft", "--config", "x"}, "no two dashes before sft"},
      {{"--nproc-per-node", "2", "--", "generate"}, "not a verb that several processes share"},
      {{"--nproc-per-node", "0", "--", "pretrain"}, "--nproc-per-node: '0'"},
      {{"--nproc", "2", "--", "pretrain"}, "--nproc"},
      {{"--nproc-per-node", "2", "--", "pretrain", "--train.sede", "3"}, "train.seed"},
      {{"--nproc-per-node", "2", "--nnodes", "2", "--program", "true", "--"}, "--node-rank"},
      {{"--nproc-per-node", "1", "--program", "true", "--master-addr", "192.0.2.1", "--"},
       "not an address of this host"},
      {{"--nproc-per-node", "1", "--program", "/missing/program", "--"}, "can't be started"},
  };
  for (const auto& [args, words] : cases) {
    const ProgramResult result = launch(args);
    EXPECT_EQ(result.exit_code, 2) << words;
    EXPECT_THAT(result.err, HasSubstr(words));
  }
}

TEST_F(Launch, AutoAsksForANumberWithoutGpus) {
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  const ProgramResult result = launch({"--program", "true", "--"});
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("no GPU is visible"));
}

TEST_F(Launch, APortInUseIsFoundAtOnce) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  const ProgramResult result =
      run("touch started", {"--master-port", std::to_string(ntohs(address.sin_port))});
  ::close(fd);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("in use"));
  EXPECT_FALSE(there("started"));
}

}  // namespace
}  // namespace llama2zh
